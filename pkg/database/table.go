package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Table is how a store keeps rows of one kind under a text as their key. In a transaction Load and Put know each row once:
// Ahead reads many in one statement, and what was put is written just before the commit in one statement for the new
// and one for the changed rows. So a transaction of many messages costs as many statements as that of one.
//
// A Table is a package's variable; its address names it.
type Table[R any] struct {
	// Name is the table's.
	Name string
	// Fields are its columns. The first is the key.
	Fields []Field[R]
	// Scan reads a row of Columns.
	Scan func(row Scanner) (R, error)
	// Exists, if set, is added to the error of a new row whose key is taken.
	Exists error
}

// Field is one column of a Table.
type Field[R any] struct {
	name  string
	fixed bool
	of    func(rows []R) Column
	key   func(R) string
}

// Fixed says that the column never changes: it is written with a new row alone.
func (f Field[R]) Fixed() Field[R] {
	f.fixed = true
	return f
}

// Text is a column of texts.
func Text[R any](name string, of func(R) string) Field[R] {
	return Field[R]{name: name, key: of, of: func(rows []R) Column { return Texts(each(rows, of)) }}
}

// Int is a column of integers.
func Int[R any](name string, of func(R) int64) Field[R] {
	return Field[R]{name: name, of: func(rows []R) Column { return Ints(each(rows, of)) }}
}

// Time is a column of instants.
func Time[R any](name string, of func(R) time.Time) Field[R] {
	return Field[R]{name: name, of: func(rows []R) Column { return Times(each(rows, of)) }}
}

// TimeOrNull is a column of instants, where the zero instant means NULL.
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

// Ahead reads and locks the rows with these keys, those that there are and are not known to tx, in one statement and in
// one order: transactions that read the same rows ahead wait for each other and never in a circle.
func (t *Table[R]) Ahead(ctx context.Context, tx *Tx, keys ...string) error {
	k := t.in(tx)
	wanted := slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(keys))), func(key string) bool { return k.rows[key] != nil })
	for chunk := range slices.Chunk(wanted, tx.Dialect().Batch()) {
		for _, key := range chunk {
			k.rows[key] = &keptRow[R]{}
		}
		in, args := tx.Dialect().In(chunk)
		key := t.Fields[0].name
		k.reading = true
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

// Load returns a row as the transaction has it, and false when there is none. It is locked until the transaction ends;
// one that is not there cannot be, so another transaction may be faster to Put it, and this one then fails (IsUnique).
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

// Put writes a row before the commit: a changed one when tx has loaded it, and otherwise a new one.
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
	return errors.Join(
		k.table.write(ctx, tx, "insert into", added, k.table.insert),
		k.table.write(ctx, tx, "update", changed, k.table.update))
}

// write has rows written by the statement that statement makes for as many as it is given.
func (t *Table[R]) write(ctx context.Context, tx *Tx, verb string, rows []R, statement func(Dialect, []R) (string, []any)) error {
	for chunk := range slices.Chunk(rows, tx.Dialect().Batch()) {
		query, args := statement(tx.Dialect(), chunk)
		err := tx.Later(ctx, Statement{Query: query, Args: args, Failed: func(err error) error {
			if IsUnique(err) && t.Exists != nil {
				err = errors.Join(t.Exists, err)
			}
			return t.failed(verb, len(chunk), err)
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *Table[R]) insert(d Dialect, rows []R) (query string, args []any) {
	values, args := t.values(d, t.Fields, rows)
	return `INSERT INTO ` + t.Name + ` (` + t.Columns() + `) ` + values, args
}

func (t *Table[R]) update(d Dialect, rows []R) (query string, args []any) {
	changing := slices.DeleteFunc(slices.Clone(t.Fields), func(f Field[R]) bool { return f.fixed })
	values, args := t.values(d, changing, rows)
	key := t.Fields[0].name
	return `WITH v (` + t.names(changing, "") + `) AS (` + values + `)
		UPDATE ` + t.Name + ` SET ` + t.names(changing[1:], "%[1]s = v.%[1]s") + ` FROM v WHERE ` + t.Name + `.` + key + ` = v.` + key, args
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

// List returns the rows of a query that selects Columns, in its order.
func (t *Table[R]) List(ctx context.Context, db *DB, query string, args ...any) (list []R, err error) {
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
