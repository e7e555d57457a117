// Package faults breaks a whole system while customers order, and then has its books checked.
//
//	plan := faults.Draw(17, faults.Shape{Orders: 300})
//	result, err := faults.Run(ctx, plan, faults.Config{Bin: "bin", Dir: dir})
//	fmt.Println(result, result.Wrong)
//
// A seed is a plan: what breaks, after how many orders, for how long; and the orders. Run starts a stack, has the orders
// come in over REST as customers send them that do not give up, breaks and mends meanwhile, and then waits until the
// system is quiet and everything that must hold does.
//
// The same seed makes the same plan and the same orders. What the machine does in between is its own: which message is in
// hand when a process is killed differs from run to run.
package faults
