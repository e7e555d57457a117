// Package stack runs a whole Orderflow on this machine: the embedded Kafka and Redis in this process, and every service
// as a process of its own with its own database file.
//
//	s, err := stack.Start(ctx, stack.Options{Bin: "bin", Dir: dir})
//	…
//	err = s.Kill("payment")          // as a machine that loses power
//	err = s.Restart(ctx, "payment")  // back on the same port with the same database
//	err = s.Stop(ctx)
//
// A service is in one of two states, up or down. Start, Restart and Kill move it; a service that goes down without
// being told to is reported on Exits, and stays down until Restart.
//
// It promises that Start returns only when every service is ready, or an error that shows the last lines of the log
// of the service that is not; that a taken port is named before anything is started; that a service keeps its port
// for as long as the stack lives; and that nothing is left running after Stop, nor, on Linux, after this process is
// gone in whatever way. It does not restart what fails, and it does not build the services.
package stack
