package database

import (
	"bytes"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Dialect is which database it is.
type Dialect int

const (
	// Postgres is PostgreSQL, 14 or later.
	Postgres Dialect = iota
	// SQLite is SQLite, in its pure Go translation.
	SQLite
)

// String is the dialect's name.
func (d Dialect) String() string {
	if d == SQLite {
		return "sqlite"
	}
	return "postgres"
}

// words are what migrations write as {{word}}, because no text means it in both databases.
var words = map[Dialect]map[string]string{
	Postgres: {
		// A number that the database gives out, ascending, never again.
		"identity":  "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
		"timestamp": "TIMESTAMPTZ",
		"bytes":     "BYTEA",
		"json":      "::jsonb", // behind a text, to look into it with ->>
		"postgres":  "",        // before a line that is for PostgreSQL alone
	},
	SQLite: {
		// Without AUTOINCREMENT the highest number would be given out again once its row is deleted.
		"identity": "INTEGER PRIMARY KEY AUTOINCREMENT",
		// The driver reads a column as time by this declared type alone.
		"timestamp": "TIMESTAMP",
		"bytes":     "BLOB",
		"json":      "",
		"postgres":  "--",
	},
}

var wordPattern = regexp.MustCompile(`\{\{\s*([^{}]*?)\s*\}\}`)

// translate replaces the {{words}} of one migration file.
func (d Dialect) translate(file string, text []byte) ([]byte, error) {
	var unknown []string
	out := wordPattern.ReplaceAllFunc(text, func(m []byte) []byte {
		word := string(wordPattern.FindSubmatch(m)[1])
		sql, ok := words[d][word]
		if !ok {
			unknown = append(unknown, word)
		}
		return []byte(sql)
	})
	if len(unknown) > 0 {
		return nil, fault.Permanentf("migration %s: {{%s}} is not known; allowed: {{identity}} {{timestamp}} {{bytes}} {{json}} {{postgres}}",
			file, strings.Join(unknown, "}} {{"))
	}
	return out, nil
}

// translated shows the files of fsys with their {{words}} replaced.
type translated struct {
	fs.FS
	dialect Dialect
}

// Open implements fs.FS. Folders are shown as they are, so that they can be listed.
func (t translated) Open(name string) (fs.File, error) {
	f, err := t.FS.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	text, err := fs.ReadFile(t.FS, name)
	if err != nil {
		return nil, err
	}
	text, err = t.dialect.translate(name, text)
	if err != nil {
		return nil, err
	}
	return &file{bytes.NewReader(text), info}, nil
}

// file is a translated file. Its info is the original's: nothing here goes by its size.
type file struct {
	*bytes.Reader
	info fs.FileInfo
}

func (f *file) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *file) Close() error               { return nil }

// MaxRows is how many rows one statement is given at a time, so that no database's limit on parameters is met
// (SQLite's is 32,766, PostgreSQL's 65,535) with up to 60 columns.
const MaxRows = 500

// Batch is how many rows a statement of In or Columns is given at a time: on PostgreSQL they are few arguments however
// many rows they have.
func (d Dialect) Batch() int {
	if d == Postgres {
		return 1 << 14
	}
	return MaxRows
}

// Column is one column of the rows that Columns makes.
type Column struct {
	array string // PostgreSQL's type
	all   any
	n     int
	at    func(i int) any
}

// Texts is a column of texts.
func Texts(values []string) Column {
	return Column{"text[]", values, len(values), func(i int) any { return values[i] }}
}

// Blobs is a column of bytes.
func Blobs(values [][]byte) Column {
	return Column{"bytea[]", values, len(values), func(i int) any { return values[i] }}
}

// Times is a column of instants.
func Times(values []time.Time) Column {
	return Column{"timestamptz[]", values, len(values), func(i int) any { return values[i] }}
}

// TimesOrNull is a column of instants, where the zero instant means NULL.
func TimesOrNull(values []time.Time) Column {
	all := make([]*time.Time, len(values))
	for i := range values {
		if !values[i].IsZero() {
			all[i] = &values[i]
		}
	}
	return Column{"timestamptz[]", all, len(values), func(i int) any {
		if all[i] == nil {
			return nil
		}
		return values[i]
	}}
}

// Ints is a column of integers.
func Ints(values []int64) Column {
	return Column{"bigint[]", values, len(values), func(i int) any { return values[i] }}
}

// In is a condition's end, behind a column, that is true for each of the texts, and its arguments; no others may precede
// them. On PostgreSQL its text is the same for any number of texts, see Columns.
func (d Dialect) In(texts []string) (text string, args []any) {
	if d == Postgres {
		return "= ANY($1::text[])", []any{texts}
	}
	return "IN (" + List(1, len(texts)) + ")", Args(nil, texts...)
}

// InInts is In for integers.
func (d Dialect) InInts(values []int64) (text string, args []any) {
	if d == Postgres {
		return "= ANY($1::bigint[])", []any{values}
	}
	return "IN (" + List(1, len(values)) + ")", Args(nil, values...)
}

// Columns returns rows, column by column, all of one length, for an INSERT or a WITH, and its arguments; no others may
// precede them, neither among the arguments nor in the text. They are inserted in their order. On PostgreSQL the text is the same for any number of rows: each connection
// keeps what it has prepared, on both ends, and hundreds of texts of hundreds of rows would be a lot to keep.
func (d Dialect) Columns(columns ...Column) (text string, args []any) {
	if d == Postgres {
		arrays := make([]string, len(columns))
		for i, c := range columns {
			arrays[i], args = fmt.Sprintf("$%d::%s", i+1, c.array), append(args, c.all)
		}
		return "SELECT * FROM unnest(" + strings.Join(arrays, ",") + ")", args
	}
	n := columns[0].n
	args = make([]any, 0, n*len(columns))
	for i := range n {
		for _, c := range columns {
			args = append(args, c.at(i))
		}
	}
	// Not numbered: SQLite takes $1 for a name, and looks for each among all before it.
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", len(columns)), ",") + "),"
	return "VALUES " + strings.TrimSuffix(strings.Repeat(row, n), ","), args
}

// List returns n placeholders numbered from first, for an IN list: List(2, 3) is "$2,$3,$4".
func List(first, n int) string {
	b := make([]byte, 0, 5*n)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(first+i), 10)
	}
	return string(b)
}

// Args puts values of one type behind the arguments that a statement has already.
func Args[T any](args []any, values ...T) []any {
	args = slices.Grow(args, len(values))
	for _, v := range values {
		args = append(args, v)
	}
	return args
}
