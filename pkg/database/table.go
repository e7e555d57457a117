package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Table is how a store keeps rows of one kind under a text as their key. In a transaction Load and Put know each row once:
// Ahead reads many in one statement, and what was put is written just before the commit in one statement for the new
// and one for the changed rows. So a transaction of many messages costs as many statements as that of one.
//
// A Table is a package's variable; its address names it. It is safe for concurrent use, as its fields never change.
type Table[R any] struct {
	// Name is the table's.
	Name string
	// Fields are its columns. The first is the key: a Text, with a primary key or unique constraint.
	Fields []Field[R]
	// Scan reads a row of Columns.
	Scan func(row Scanner) (R, error)
	// Exists, if set, is added to the error of a new row whose key is taken.
	Exists error
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// Field is one column of a Table: its name, and its value in a row.
type Field[R any] struct {
	name  string
	fixed bool
	of    func(rows []R) Column
	key   func(R) string
}

// Fixed returns a column that is written with a new row alone: what a changed row has there is left out.
func (f Field[R]) Fixed() Field[R] {
	f.fixed = true
	return f
}

// Text is a column of type TEXT.
func Text[R any](name string, of func(R) string) Field[R] {
	return Field[R]{name: name, key: of, of: func(rows []R) Column { return Texts(each(rows, of)) }}
}

// Int is a column of type INTEGER or BIGINT. A value that is too large for it makes the write fail.
func Int[R any](name string, of func(R) int64) Field[R] {
	return Field[R]{name: name, of: func(rows []R) Column { return Ints(each(rows, of)) }}
}

// Time is a column of type {{timestamp}}, in any time zone. PostgreSQL keeps microseconds.
func Time[R any](name string, of func(R) time.Time) Field[R] {
	return Field[R]{name: name, of: func(rows []R) Column { return Times(each(rows, of)) }}
}

// TimeOrNull is a Time that may be NULL, which the zero instant stands for.
func TimeOrNull[R any](name string, of func(R) time.Time) Field[R] {
	return Field[R]{name: name, of: func(rows []R) Column { return TimesOrNull(each(rows, of)) }}
}

func each[R, V any](rows []R, of func(R) V) []V {
	values := make([]V, len(rows))
	for i, r := range rows {
		values[i] = of(r)
	}
	return values
}

// Columns is what a SELECT names for Scan: "id, state, version".
func (t *Table[R]) Columns() string { return t.names(t.Fields, "") }

func (t *Table[R]) names(fields []Field[R], format string) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		if names[i] = f.name; format != "" {
			names[i] = fmt.Sprintf(format, f.name)
		}
	}
	return strings.Join(names, ", ")
}

func (t *Table[R]) key(row R) string { return t.Fields[0].key(row) }

// kept is what one transaction knows of a table.
type kept[R any] struct {
	table *Table[R]
	rows  map[string]*keptRow[R]
	// reading is set while there may be statements that will give rows.
	reading bool
	// put are the keys of rows that are to be written.
	put []string
}

type keptRow[R any] struct {
	row   R
	there bool // in the database
	put   bool // and not yet written
}

func (t *Table[R]) in(tx *Tx) *kept[R] {
	return putOffBy(tx, t, func() *kept[R] { return &kept[R]{table: t, rows: map[string]*keptRow[R]{}} })
}

// Ahead reads and locks the rows with these keys, those that there are and that are not known to tx, in one statement (of
// Tx.Later: several tables are read in one round trip) and in one order: transactions that read all their rows of a table in one call never wait for each other in a circle.
func (t *Table[R]) Ahead(ctx context.Context, tx *Tx, keys ...string) error {
	k := t.in(tx)
	wanted := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(keys))), func(key string) bool { return k.rows[key] != nil })
	for chunk := range slices.Chunk(wanted, tx.Dialect().Batch()) {
		for _, key := range chunk {
			k.rows[key] = &keptRow[R]{}
		}
		k.reading = true
		in, args := tx.Dialect().In(chunk)
		key := t.Fields[0].name
		err := tx.Later(ctx, Statement{
			Query: `SELECT ` + t.Columns() + ` FROM ` + t.Name + ` WHERE ` + key + ` ` + in + ` ORDER BY ` + key + tx.ForUpdate(), Args: args,
			Row: k.take, Failed: func(err error) error { return t.failed("read", len(chunk), err) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wait waits for the rows that are being read.
func (k *kept[R]) wait(ctx context.Context, tx *Tx) error {
	if !k.reading {
		return nil
	}
	k.reading = false
	return tx.Wait(ctx)
}

// take keeps a row that was read.
func (k *kept[R]) take(columns Scanner) error {
	row, err := k.table.Scan(columns)
	if err != nil {
		return err
	}
	known := k.rows[k.table.key(row)]
	if known.there = true; !known.put {
		known.row = row
	}
	return nil
}

func (t *Table[R]) failed(verb string, n int, err error) error {
	return fmt.Errorf("%s %s, %d rows: %w", verb, t.Name, n, Classify(err))
}

// Ensure is Ahead for rows that must be there: it first inserts, in one statement, those of the given rows that are not,
// which nobody else sees before the commit. It is for rows that several transactions may make at once: the others wait, and
// then find the row. All are tried, because to look first and insert after could wait in a circle.
func (t *Table[R]) Ensure(ctx context.Context, tx *Tx, rows ...R) error {
	k := t.in(tx)
	unknown := make(map[string]R, len(rows))
	for _, row := range rows {
		if k.rows[t.key(row)] != nil { // it may be one that is being read
			if err := k.wait(ctx, tx); err != nil {
				return err
			}
		}
		if known := k.rows[t.key(row)]; known == nil || !known.there && !known.put {
			unknown[t.key(row)] = row
		}
	}
	keys := slices.Sorted(maps.Keys(unknown))
	missing := make([]R, len(keys))
	for i, key := range keys {
		delete(k.rows, key)
		missing[i] = unknown[key]
	}
	if err := t.insert(ctx, tx, missing, ` ON CONFLICT (`+t.Fields[0].name+`) DO NOTHING`); err != nil {
		return err
	}
	return t.Ahead(ctx, tx, keys...)
}

// Load returns a row as the transaction has it, and false when there is none. It is locked until the transaction ends;
// one that is not there cannot be, so another transaction may be faster to make it, and this one then fails (IsUnique).
func (t *Table[R]) Load(ctx context.Context, tx *Tx, key string) (R, bool, error) {
	k := t.in(tx)
	if k.rows[key] == nil {
		if err := t.Ahead(ctx, tx, key); err != nil {
			var none R
			return none, false, err
		}
	}
	if err := k.wait(ctx, tx); err != nil {
		var none R
		return none, false, err
	}
	row := k.rows[key]
	return row.row, row.there || row.put, nil
}

// Put writes a row before the commit: a changed one when tx has read it, and otherwise a new one. When a new row's key is
// taken, that fails with a unique constraint (IsUnique, and Exists).
func (t *Table[R]) Put(tx *Tx, row R) {
	tx.writes++
	k, key := t.in(tx), t.key(row)
	known := k.rows[key]
	if known == nil {
		known = &keptRow[R]{}
		k.rows[key] = known
	}
	if known.row = row; !known.put {
		known.put = true
		k.put = append(k.put, key)
	}
}

// Flush implements PutOff.
func (k *kept[R]) Flush(ctx context.Context, tx *Tx) error {
	if len(k.put) == 0 {
		return nil
	}
	if err := k.wait(ctx, tx); err != nil { // which of them are there
		return err
	}
	var added, changed []R
	for _, key := range slices.Sorted(slices.Values(k.put)) {
		row := k.rows[key]
		if row.there {
			changed = append(changed, row.row)
		} else {
			added = append(added, row.row)
		}
		row.there, row.put = true, false
	}
	k.put = k.put[:0]
	if err := k.table.insert(ctx, tx, added, ""); err != nil {
		return err
	}
	return k.table.update(ctx, tx, changed)
}

func (t *Table[R]) insert(ctx context.Context, tx *Tx, rows []R, end string) error {
	return t.write(ctx, tx, "insert into", rows, t.Fields, func(values string) string {
		return `INSERT INTO ` + t.Name + ` (` + t.Columns() + `) ` + values + end
	})
}

func (t *Table[R]) update(ctx context.Context, tx *Tx, rows []R) error {
	changing := slices.DeleteFunc(slices.Clone(t.Fields), func(f Field[R]) bool { return f.fixed })
	key := t.Fields[0].name
	return t.write(ctx, tx, "update", rows, changing, func(values string) string {
		return `WITH v (` + t.names(changing, "") + `) AS (` + values + `)
			UPDATE ` + t.Name + ` SET ` + t.names(changing[1:], "%[1]s = v.%[1]s") + ` FROM v WHERE ` + t.Name + `.` + key + ` = v.` + key
	})
}

// write has the statement executed that has the rows as its values.
func (t *Table[R]) write(ctx context.Context, tx *Tx, verb string, rows []R, fields []Field[R], statement func(values string) string) error {
	for chunk := range slices.Chunk(rows, tx.Dialect().Batch()) {
		values, args := t.values(tx.Dialect(), fields, chunk)
		err := tx.Later(ctx, Statement{Query: statement(values), Args: args, Failed: func(err error) error {
			if IsUnique(err) && t.Exists != nil {
				err = fmt.Errorf("%w: %w", t.Exists, err)
			}
			return t.failed(verb, len(chunk), err)
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Table[R]) values(d Dialect, fields []Field[R], rows []R) (text string, args []any) {
	columns := make([]Column, len(fields))
	for i, f := range fields {
		columns[i] = f.of(rows)
	}
	return d.Columns(columns...)
}

// Get returns a row as it was last committed, without a lock, and false when there is none.
func (t *Table[R]) Get(ctx context.Context, db *DB, key string) (R, bool, error) {
	row, err := t.Scan(db.QueryRowContext(ctx, `SELECT `+t.Columns()+` FROM `+t.Name+` WHERE `+t.Fields[0].name+` = $1`, key))
	if errors.Is(err, sql.ErrNoRows) {
		return row, false, nil
	}
	if err != nil {
		return row, false, fmt.Errorf("read %s: %w", t.Name, Classify(err))
	}
	return row, true, nil
}

// GetAll returns those rows of the keys that there are, by key, as they were last committed and without a lock, in one
// statement for a batch of keys.
func (t *Table[R]) GetAll(ctx context.Context, db *DB, keys []string) (map[string]R, error) {
	found := make(map[string]R, len(keys))
	for chunk := range slices.Chunk(slices.Compact(slices.Sorted(slices.Values(keys))), db.dialect.Batch()) {
		if err := t.getAll(ctx, db, chunk, found); err != nil {
			return nil, fmt.Errorf("read %s: %w", t.Name, Classify(err))
		}
	}
	return found, nil
}

func (t *Table[R]) getAll(ctx context.Context, db *DB, keys []string, into map[string]R) (err error) {
	in, args := db.dialect.In(keys)
	rows, err := db.QueryContext(ctx, `SELECT `+t.Columns()+` FROM `+t.Name+` WHERE `+t.Fields[0].name+` `+in, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	list, err := t.scanAll(rows)
	for _, row := range list {
		into[t.key(row)] = row
	}
	return err
}

// List returns the rows of a query that selects Columns, in its order, from a *DB or a *Tx. There it sees what was put
// after a Flush, and what it locks Load does not know.
func (t *Table[R]) List(ctx context.Context, db querier, query string, args ...any) (list []R, err error) {
	rows, err := db.QueryContext(ctx, query, args...)
	if err == nil {
		defer func() { err = errors.Join(err, rows.Close()) }()
		list, err = t.scanAll(rows)
	}
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", t.Name, Classify(err))
	}
	return list, nil
}

func (t *Table[R]) scanAll(rows *sql.Rows) (list []R, err error) {
	for rows.Next() {
		row, err := t.Scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, row)
	}
	return list, rows.Err()
}
