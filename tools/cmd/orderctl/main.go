// Command orderctl runs and operates Orderflow: a whole system on this machine, and the topics of any.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/orderflow/orderflow/api/events"
)

// commands are the command line; each command has a file of its own.
type commands struct {
	Up     upCmd     `cmd:"" help:"Run a whole system on this machine until Ctrl-C."`
	Down   downCmd   `cmd:"" help:"Stop the system that 'up' runs."`
	Reset  resetCmd  `cmd:"" help:"Stop the system that 'up' runs, and remove its data."`
	Kafka  kafkaCmd  `cmd:"" help:"Run one of Kafka's own command-line tools."`
	Run    runCmd    `cmd:"" help:"Run a command against a system of its own, which goes when the command ends."`
	Demo   demoCmd   `cmd:"" help:"Show everything at work on a system of its own, and hold it against what should happen."`
	Bench  benchCmd  `cmd:"" help:"Measure a system of its own: throughput, latency, and what an order costs."`
	Lag    lagCmd    `cmd:"" help:"Show how far the consumer groups are behind, and what to do about it."`
	Replay replayCmd `cmd:"" help:"Have a service read a topic's history again, beside the live one or in it."`
	DLQ    dlqCmd    `cmd:"" name:"dlq" help:"List, group, show, redrive, edit and discard dead letters."`
	Parked parkedCmd `cmd:"" help:"List and show keys whose messages wait, and what for."`
	Saga   sagaCmd   `cmd:"" help:"List and show orders' sagas; retry, skip and compensate those that are stuck."`
	Order  orderCmd  `cmd:"" help:"Look at orders."`
	Story  storyCmd  `cmd:"" help:"Tell an order's whole story from the topics alone, and check it."`
	Topics topicsCmd `cmd:"" help:"Hold Kafka's topics against topics.yaml, and make them so."`
}

// console is where a command writes: results to out, everything else to err.
type console struct{ out, err io.Writer }

// exitError ends the program with the code of a command that it ran, without a word.
type exitError int

// Error is for callers that print it after all.
func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	os.Exit(run(os.Args[1:], console{out: os.Stdout, err: os.Stderr}))
}

func run(args []string, c console) int {
	// The second signal ends the program at once, and with it everything that it started.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	exited, code := false, 0
	parser, err := kong.New(&commands{},
		kong.Name("orderctl"), kong.Description("Runs and operates Orderflow."),
		kong.Writers(c.out, c.err), kong.Exit(func(n int) { exited, code = true, n }),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(c),
		kong.Vars{"environments": strings.Join(events.Environments(), ",")},
	)
	if err != nil {
		say(c.err, "orderctl: %s\n", err)
		return 2
	}
	command, err := parser.Parse(args)
	if exited { // --help
		return code
	}
	var wrong *kong.ParseError
	if errors.As(err, &wrong) {
		say(c.err, "orderctl: %s\n\n", err)
		_ = wrong.Context.PrintUsage(true) // it is on the way out
		return 2
	}
	if err != nil {
		say(c.err, "orderctl: %s\n", err)
		return 2
	}
	err = command.Run()
	var exit exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return int(exit)
	default:
		say(c.err, "orderctl: %s\n", err)
		return 1
	}
}

// say writes for a person; nothing can be done when nobody can be reached.
func say(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }

// binFolder is where orderctl's own binary stands, with the services' beside it.
func binFolder(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the services' binaries: %w; name their folder with --bin", err)
	}
	return filepath.Dir(self), nil
}
