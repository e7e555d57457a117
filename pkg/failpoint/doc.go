// Package failpoint names the places on a message's way where a process may be made to die, fail or hang, and lets its
// clock be set, so that a test can break a service exactly there. The term is that of FreeBSD's fail(9).
//
// Without the build tag failpoints every function here is empty and inlined: a point costs nothing. With the tag a process
// is told from outside, while it runs, by files in the folder FAILPOINTS_DIR that bear its INSTANCE_ID:
//
//	payment-1         "consumer-before-commit die"   what to do the next time it comes to that point
//	payment-1.clock   "-5m"                          how far its wall clock is off, whole seconds; none, not at all
//
// The first is removed just before it is done, so it is done once, by one goroutine; that it is gone tells that the point
// was reached. Put both there whole, by renaming a file. The actions are
//
//	die          the process kills itself with SIGKILL, as if the machine lost power
//	fail         the point returns an error that is Unavailable (package fault); only where the table says so
//	hang 1500ms  the goroutine waits there for that long, and goes on
//
// What is done, and what cannot be understood, is said in one line on standard error.
//
// # The points
//
//	consumer-before-commit  the handlers of a batch of messages have run; their transaction is not committed       fail
//	consumer-after-commit   it is committed; fail: the commit's answer is lost                                       fail
//	call-answered           a handler's call to the outside (OnCall) was answered; nothing of it is stored yet      fail
//	letter-sent             a dead letter is in its topic; its message is not acknowledged                            fail
//	offset-before-commit    a message is acknowledged; its offset is not marked for the group's next commit
//	relay-before-send       rows were read from the outbox; none of them is sent                                     fail
//	relay-after-send        the sender has answered; none of the rows is deleted, and the relay forgets the answer    fail
//	feed-appended           entries are in Redis; whoever appended them does not know                                fail
//	request-before-commit   requests have had their effect; their transaction is not committed                       fail
//	request-after-commit    it is committed; the requests are not answered                                           fail
//	timer-before-commit     a saga's deadline was handled; its transaction is not committed                          fail
//
// # The clock
//
// Now is the clock of all that is kept or compared across processes: messages' times and their records' timestamps, inbox
// marks, idempotency keys, leases, saga deadlines. Set, it moves as the machine's own clock does when that is set: wall
// time jumps, monotonic readings go on, so that differences of two readings in one process are true. Timers and what
// merely measures how long something takes use package time, and would not see a jump anyway.
package failpoint
