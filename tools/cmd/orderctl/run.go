package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/orderflow/orderflow/tools/stack"
)

// killAfter is how long a command may take to end after it was asked to.
const killAfter = 10 * time.Second

// runCmd runs a command that finds a fresh system by environment variables: those of stack.Env, ORDERCTL, the path of
// this program, and CONTROL_URL, where it can have services and servers killed and restarted.
type runCmd struct {
	stackFlags  `embed:""`
	Bin         string   `help:"Folder of the services' binaries; by default orderctl's own." type:"path"`
	ServersOnly bool     `help:"Run no services: Kafka with its topics, Redis, and what else the stack has."`
	Keep        bool     `help:"Keep the temporary folder with databases and logs; it is kept anyway when something fails."`
	Set         []string `help:"A setting for every service, or with 'service:' in front for one." placeholder:"[SERVICE:]NAME=VALUE" sep:"none"`
	Command     []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Run returns what the command ended with.
func (r runCmd) Run(ctx context.Context, c console) (err error) {
	if r.Command[0] == "--" {
		r.Command = r.Command[1:]
	}
	if len(r.Command) == 0 {
		return errors.New("no command to run")
	}
	env, err := settings(r.Set)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	dir, err := r.tempDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, removeDir(c, dir, err != nil || r.Keep)) }()
	var s system
	if r.ServersOnly {
		s, err = r.startServers(ctx, dir)
	} else {
		s, err = r.start(ctx, c, r.Bin, dir, env)
	}
	if err != nil {
		return err
	}
	control, err := serveControl(ctx, s)
	if err != nil {
		return errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	err = execute(ctx, r.Command, append(s.Env(), "ORDERCTL="+self, "CONTROL_URL="+control.url))
	return errors.Join(err, died(s), control.close(), s.Stop(context.WithoutCancel(ctx)))
}

// startServers starts what services need, and none of them.
func (r runCmd) startServers(ctx context.Context, dir string) (system, error) {
	opts, err := r.options(r.Bin, dir, nil)
	if err != nil {
		return nil, err
	}
	opts.Services = []string{}
	return stack.Start(ctx, opts)
}

// execute runs a program with more environment, and hands on its exit code.
func execute(ctx context.Context, command, env []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
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
		return fmt.Errorf("%s: %w", command[0], err)
	}
	return nil
}

// died names everything that went down while the command ran: the command may not have noticed.
func died(s system) error {
	var errs []error
	for {
		select {
		case exit := <-s.Exits():
			errs = append(errs, fmt.Errorf("%s went down (%s); its log ends:\n%s", exit.Name, exit.State, exit.Log))
		default:
			return errors.Join(errs...)
		}
	}
}
