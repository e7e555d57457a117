// Package service is the shape of a process: configuration from the environment, start, readiness, graceful stop.
//
// main is one line, service.Main("order", order.Run), and Run wires and returns:
//
//	type Config struct {
//		service.Base
//		StepDeadline time.Duration `env:"SAGA_STEP_DEADLINE" envDefault:"30s" desc:"how long a step may take"`
//	}
//
//	func Run(ctx context.Context, cfg Config, rt *service.Runtime) error {
//		db, err := …
//		rt.OnStop("database", func(context.Context) error { return db.Close() })
//		rt.Check("database", db.Ping)
//		rt.Consume("consumer", consumer.Run)
//		rt.Go("relay", relay.Run)
//		rt.HTTP(router)
//		return nil
//	}
//
// The states of a process are
//
//	starting ─▶ running ─▶ draining ─▶ stopped
//
// /livez answers in all of them, /readyz is 200 only while running and only while every check passes. A stop (SIGTERM,
// SIGINT, or a background function that fails) goes in order, inside one deadline:
//
//  1. unready, and DRAIN_DELAY for load balancers to notice
//  2. consumers and HTTP take nothing new and finish what they have; event streams end
//  3. relays and other background functions end, so that what 2 wrote is still sent
//  4. closers, the last registered first
//
// It promises that everything started is waited for or named as still running when the deadline passes, that a second
// signal ends the process at once, and that the exit code is 0 after a clean stop, 1 after a failure and 2 for a wrong
// configuration or argument, all of whose mistakes are listed together. It does not restart what fails: that is for
// whatever runs the process.
package service
