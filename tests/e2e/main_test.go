package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/orderflow/orderflow/tests/internal/shop"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
)

// parallel is how many tests run at once unless -parallel says otherwise: they wait more than they compute.
const parallel = "24"

// system is the one under test.
var system *shop.Shop

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		if err := flag.Set("test.parallel", parallel); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	var err error
	if system, err = shop.Open(); err != nil {
		fmt.Fprintf(os.Stderr, "These tests need a running system and are told by the environment where it is:\n%v\n\n"+
			"To run them on a stack of their own:  make test-e2e\n", err)
		return 1
	}
	fmt.Printf("SEED=%d\n", system.Seed)
	ctx, cancel := context.WithTimeout(context.Background(), shop.Wait)
	defer cancel()
	if err := client.Eventually(ctx, system.Ready); err != nil {
		fmt.Fprintln(os.Stderr, "the system does not get ready:", err)
		return 1
	}
	if code := m.Run(); code != 0 {
		return code
	}
	return balance()
}

// balance audits the whole system once the tests are through.
func balance() int {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	audit, err := books.Settle(ctx, system.System, books.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, "the books cannot be read:", err)
		return 1
	}
	for _, f := range audit.Findings {
		fmt.Printf("books: %s: %s\n", f.Name, f.Says)
	}
	if err := audit.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "the books do not balance:\n"+err.Error())
		return 1
	}
	return 0
}
