// Package database opens PostgreSQL or SQLite by URL, migrates it, and runs transactions on it. The SQL above it is one
// portable text; where the two differ, the difference is in dialect.go.
//
//	db, err := database.Open(ctx, "sqlite:var/order.db")          // or "postgres://user@host:5432/order"
//	err = db.Migrate(ctx, "order", migrations)
//	err = db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
//		_, err := tx.ExecContext(ctx, `UPDATE orders SET state = $2 WHERE id = $1`, id, state)
//		return err
//	})
//
// A Table reads and writes rows of one kind for all that a transaction does; Changes are calls that change one row each and
// share their transactions.
//
// Portable means: $N placeholders, ON CONFLICT, RETURNING, instants as parameters and never from the database's clock,
// and Tx.ForUpdate where a row is read to be changed. Times are stored and returned in UTC, to the microsecond on
// PostgreSQL and to the nanosecond on SQLite.
//
// A transaction that many messages share must not cost a statement for each. Table keeps rows so that they are read ahead,
// known once, and written together before the commit; PutOffBy does so for any other work, sums say:
//
//	err := orders.Ahead(ctx, tx, ids...)       // one SELECT … FOR UPDATE
//	for each message {
//		o, there, err := orders.Load(ctx, tx, id) // no statement
//		orders.Put(tx, o.Confirmed())             // nor here
//	}                                          // at the end one INSERT and one UPDATE
//
// It promises:
//
//   - InTx commits when its function returns nil and otherwise leaves nothing behind: also when the function panics
//     or ends its goroutine, and the panic goes on.
//   - What InTx, Migrate, Ping and the DB's queries return is classified (package fault): an error says whether the
//     database is away, whether the same transaction may work later, or nothing.
//   - On SQLite transactions follow one another: there is one connection that writes, a transaction locks at its
//     begin, and nothing that it read can change under it. Waiting for it ends with the context.
//   - A committed transaction survives a crash of the machine (SQLite runs with synchronous=FULL).
//   - A row that a Table's Load returned stays as it is until the transaction ends, but for what it puts itself. What was
//     put is written before the commit, all of it or nothing of the transaction, in as many statements for many rows as for one
//     (on SQLite for each MaxRows). A savepoint that is undone takes back what was put after it and nothing else.
//   - Transactions lock and write the rows of a Table in one order of their keys. Those that read ahead what they use, table
//     after table in one order, never wait for each other in a circle.
//   - PostgreSQL that says nothing for a minute when it was asked something is away, as one that refuses connections is:
//     nobody waits longer for a machine that is gone. Migrations may take longer.
//   - Passwords appear in no error.
//
// It does not promise:
//
//   - To know whether a transaction committed when the connection was lost during its commit. The error is then
//     Unavailable and whoever does it again must be able to (package inbox).
//   - To try again by itself. Serialization failures, deadlocks and lock timeouts are Transient; the caller repeats.
//   - That a plain SELECT in a transaction sees what was put. Flush writes it at once.
//   - That a transaction can go on after a failed statement: SQLite would, PostgreSQL refuses. Return the error, or
//     set a savepoint before.
//   - Good sense in a network file system under SQLite.
package database
