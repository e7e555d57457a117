//go:build native

package rolling_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	orderapi "github.com/orderflow/orderflow/api/rest/order"
	"github.com/orderflow/orderflow/tools/books"
	"github.com/orderflow/orderflow/tools/client"
	"github.com/orderflow/orderflow/tools/stack"
)

const (
	root = "../../.."
	// drain is how long a replica that was told to stop still serves: longer than the balancer takes to notice.
	drain = "3s"
	// calm is how many orders are placed while nothing goes on.
	calm     = 40
	patience = 2 * time.Minute
)

// Two replicas of each service are restarted, one at a time, while customers order and look. Stopped in order, no
// request fails; nor without a drain, when the balancer takes a replica out before it is told to stop, as Kubernetes does.
// Without either, or killed, some do, so the first figures mean something. No effect is lost or doubled in any way.
//
// Meanwhile the order service gets a new version, which sends a field that no other knows: first one replica beside the
// old one, then both; then it is taken back.
func TestRollingRestart(t *testing.T) {
	dir := t.TempDir()
	bin := deployed(t, filepath.Join(root, "bin"))
	next := nextVersion(t)
	native := os.Getenv("NATIVE_DIR")
	require.NotEmpty(t, native, "NATIVE_DIR must be the folder of the native stack: run this with `make test-rolling-native`")
	s, err := stack.Start(t.Context(), stack.Options{
		Bin: bin, Dir: dir, Replicas: 2, Native: &stack.Native{Libs: filepath.Join(native, "libs"), Brokers: 1},
		Env: map[string][]string{"": {"DRAIN_DELAY=" + drain, "LOG_LEVEL=warn"}},
	})
	require.NoError(t, err)
	stopped := false
	stop := func() {
		if !stopped {
			stopped = true
			require.NoError(t, s.Stop(context.WithoutCancel(t.Context())))
		}
	}
	t.Cleanup(stop)
	urls, balancers := map[string]string{}, map[string]*balancer{}
	for _, service := range client.Services() {
		balancers[service] = balance(t, s.URL(service), s.URL(service+"-2"))
		urls[service] = balancers[service].URL
	}
	// restart goes on when the balancer sends the replica requests again, as a Deployment's controller does.
	restart := func(replica string) error {
		if err := s.Restart(t.Context(), replica); err != nil {
			return fmt.Errorf("restart %s: %w", replica, err)
		}
		return balancers[strings.TrimSuffix(replica, "-2")].await(t.Context(), s.URL(replica))
	}
	system, err := client.New(client.Addresses{URLs: urls, Brokers: s.Brokers(), RedisURL: s.RedisURL()})
	require.NoError(t, err)
	defer system.Close()

	charges := openCommands(t, s.Brokers())
	phases := []*phase{}
	customers := begin(t, system, "before")
	during := func(name string, do func()) {
		phases = append(phases, customers.enter(name))
		do()
	}
	goOn := func() {
		p := phases[len(phases)-1]
		require.Eventually(t, func() bool { return p.orders() >= calm }, patience, probeEvery, "the load goes on")
	}
	during("before", goOn)
	deploy(t, bin, "order", next)
	during("two versions", func() {
		require.NoError(t, restart("order-2"))
		charges.until(t, phases, true)
	})
	during("restarted one at a time", func() {
		var all sync.WaitGroup
		for _, service := range client.Services() {
			all.Go(func() {
				for _, replica := range []string{service, service + "-2"} {
					if err := restart(replica); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
	})
	during("between", goOn)
	each := func(do func(replica string)) func() {
		return func() {
			for _, replica := range []string{"order", "order-2"} {
				do(replica)
			}
		}
	}
	deploy(t, bin, "order", withoutDrain(t, filepath.Join(root, "bin", "order")))
	during("the old version again", each(func(replica string) { require.NoError(t, restart(replica)) }))
	during("without a drain, taken out before", each(func(replica string) {
		back, err := balancers["order"].takeOut(t.Context(), s.URL(replica))
		require.NoError(t, err)
		require.NoError(t, restart(replica))
		back()
	}))
	during("without a drain", each(func(replica string) { require.NoError(t, restart(replica)) }))
	during("killed one at a time", each(func(replica string) {
		require.NoError(t, s.Kill(replica))
		require.NoError(t, restart(replica))
	}))
	during("after", goOn)
	customers.end()
	end := time.Now()

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends := settled(ctx, t, system)
	charges.twoVersions(t, phases)
	for i, p := range phases {
		until := end
		if i+1 < len(phases) {
			until = phases[i+1].began
		}
		t.Log(p.figures(ends, until))
		if p.name == "without a drain" || p.name == "killed one at a time" {
			require.NotEmpty(t, p.failures, "%s: it must be noticed, or this test sees nothing", p.name)
			continue
		}
		require.Empty(t, p.failures, p.name)
		require.NotEmpty(t, p.placed, p.name)
	}
	audit, err := books.Settle(ctx, system, books.Options{})
	require.NoError(t, err)
	for _, f := range audit.Findings {
		t.Logf("books: %s: %s", f.Name, f.Says)
	}
	require.NoError(t, audit.Err())
	for _, p := range phases {
		for _, id := range p.placed {
			require.Contains(t, ends, id, "an order was answered with 202 and is gone")
		}
	}
	stop()
	select {
	case exit := <-s.Exits():
		require.Failf(t, "it went down by itself", "%s: %s\n%s", exit.Name, exit.State, exit.Log)
	default:
	}
}

// settled waits until every order has ended, and returns how long each took.
func settled(ctx context.Context, t *testing.T, system *client.System) map[string]time.Duration {
	t.Helper()
	var all []orderapi.Order
	require.NoError(t, client.Eventually(ctx, func(ctx context.Context) (err error) {
		if all, err = system.AllOrders(ctx, ""); err != nil {
			return err
		}
		for _, o := range all {
			if !client.Final(o) {
				return fmt.Errorf("order %s is still %s", o.OrderID, o.State)
			}
		}
		return nil
	}))
	took := map[string]time.Duration{}
	for _, o := range all {
		took[o.OrderID] = o.UpdatedAt.Sub(o.CreatedAt)
	}
	return took
}
