// Package inject breaks a running stack. Each tool begins a fault and returns what mends it; nothing is broken before, nor
// after.
//
// # Network: between services and servers
//
//	n := inject.NewNetwork(client.Services()...)           // then stack.Options{Between: n.Between}
//	n.Cut(Link)                                            connections are reset, new ones are served
//	mend := n.Refuse(Link)                                 new ones are reset too
//	mend := n.Slow(Link, Speed{Latency, Jitter, BytesPerSecond})
//	mend := n.Stall(Link)                                  no byte moves; mended, all of them do
//	mend := n.HalfOpen(Link)                               every byte is swallowed, without an end, for good
//	n.Connections(Link) int
//	n.Close() error
//
// A Link is a service, or all, and a server, or all: Link{Service: "payment", Server: "kafka"}.
//
// # Processes: from within
//
//	p, err := inject.OpenProcesses(dir)                    // then stack.Options.Env[""] = p.Env(), and binaries of `make build-faults`
//	disarm, err := p.Arm("payment-1", failpoint.CallAnswered, inject.Die)  // or Fail, or Hang(d)
//	p.Armed(instance) bool; p.Met(ctx, instance) error     it came to the point
//	met, err := disarm()                                   takes the order back
//	mend, err := p.SetClock("payment-1", -5*time.Minute)   the wall clock jumps while the process runs
//
// The points are those of package failpoint; its documentation says at which of them Fail can be.
//
// # Records: what stands in Kafka
//
//	r, err := inject.OpenRecords(brokers)
//	records, err := r.Newest(ctx, topic, n)                the last n of each partition
//	err := r.Send(records...)                              duplicates; sent later, late ones
//	err := r.Send(inject.Shuffled(records, random)...)     older after newer
//	r.Close() error
//
// # Provider: who moves money and parcels
//
//	p, err := inject.OpenProvider()                        // then stack.Options.Env of payment and shipping = p.Env()
//	mend := p.Begin(inject.FailsAfter)                     or Fails, Hangs, HangsAfter, Tears, Twice; the lies Denies, Pretends
//	p.Books() map[string]Entry; p.Taken() map[string]int64 what it says that it did; Entry.Really, the truth
//	p.Close() error
//
// Of a lie no service can know, so the services' books agree with what the provider says, and not with what it did. In its own
// process, with PAYMENT_PROVIDER=sandbox, the tokens tok_slow, tok_timeout (hangs), tok_fail_twice (fails) and tok_ambiguous
// (fails after) do the same by order, as do the cities of package carrier's sandbox.
//
// # Disk
//
//	mend, err := inject.FullDisk(stack.PIDs()["order"])    every write to a file fails, the log's too; Linux
package inject
