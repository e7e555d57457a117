package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/orderflow/orderflow/tools/internal/stack"
)

// killAfter is how long a command may take to end after it was asked to.
const killAfter = 10 * time.Second

// runCmd runs a command that finds a fresh system by environment variables: ORDER_URL and the like, KAFKA_BROKERS,
// REDIS_URL, and ORDERCTL, the path of this program.
type runCmd struct {
	Bin     string   `help:"Folder of the services' binaries; by default orderctl's own." type:"path"`
	Keep    bool     `help:"Keep the temporary folder with databases and logs; it is kept anyway when something fails."`
	Set     []string `help:"A setting for every service, or with 'service:' in front for one." placeholder:"[SERVICE:]NAME=VALUE" sep:"none"`
	Command []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Run returns what the command ended with.
func (r runCmd) Run(ctx context.Context, c console) (err error) {
	if r.Command[0] == "--" {
		r.Command = r.Command[1:]
	}
	if len(r.Command) == 0 {
		return errors.New("no command to run")
	}
	bin, err := binFolder(r.Bin)
	if err != nil {
		return err
	}
	env, err := settings(r.Set)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "orderflow-")
	if err != nil {
		return err
	}
	defer func() {
		// A folder in which nothing was made is of no use to anybody: Remove takes only an empty one.
		if (err != nil || r.Keep) && os.Remove(dir) != nil {
			say(c.err, "orderctl: databases and logs are kept in %s\n", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	s, err := stack.Start(ctx, stack.Options{Bin: bin, Dir: dir, Env: env})
	if err != nil {
		return err
	}
	err = r.command(ctx, append(s.Env(), "ORDERCTL="+self))
	return errors.Join(err, died(s), s.Stop(context.WithoutCancel(ctx)))
}

func (r runCmd) command(ctx context.Context, env []string) error {
	cmd := exec.CommandContext(ctx, r.Command[0], r.Command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// It ends as it likes before it is killed: it may have things of its own to stop.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitError(exit.ExitCode())
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.Command[0], err)
	}
	return nil
}

// died names every service that went down while the command ran: the command may not have noticed.
func died(s *stack.Stack) error {
	var errs []error
	for {
		select {
		case exit := <-s.Exits():
			errs = append(errs, fmt.Errorf("%s went down (%s); its log ends:\n%s", exit.Service, exit.State, exit.Log))
		default:
			return errors.Join(errs...)
		}
	}
}
