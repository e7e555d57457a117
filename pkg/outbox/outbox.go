package outbox

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations creates the tables outbox and outbox_lease: db.Migrate(ctx, "outbox", outbox.Migrations).
var Migrations = database.Folder(files)

// defaultMaxBytes stays below Kafka's default of 1 MiB a record, with room for what a record has around it.
const defaultMaxBytes = 900 << 10

// Options are an outbox's settings. Zero values mean the defaults.
type Options struct {
	// Validate is asked about every event that Publish makes; its error is Permanent. Forwarded events are not asked
	// about: they were published once.
	Validate func(event.Event) error
	// MaxBytes bounds an event's body and headers together, default 900 KiB. Larger ones are refused.
	MaxBytes int
	// Logger hears of what nobody else is told. Default: nobody.
	Logger *slog.Logger
}

// Outbox runs transactions that publish. It is safe for concurrent use.
type Outbox struct {
	db      *database.DB
	factory event.Factory
	opts    Options

	mu    sync.Mutex
	wakes []chan struct{} // of the relays in this process, each with room for one
}

// New returns the outbox of db. Events are made by f.
func New(db *database.DB, f event.Factory, opts Options) *Outbox {
	if opts.MaxBytes <= 0 {
		opts.MaxBytes = defaultMaxBytes
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	return &Outbox{db: db, factory: f, opts: opts}
}

// Tx is a transaction that publishes. What is published lies in memory until just before the commit.
type Tx struct {
	*database.Tx
	outbox  *Outbox
	pending []row
}

// row is one row of the table, without what the database adds.
type row struct {
	id, key, typ, topic, headers, payload string
	at                                    time.Time
	// refused is why there is no row: a Forward that must not be lost in silence, and that Rewind undoes.
	refused error
}

// InTx runs fn in a transaction, as database.DB.InTx does, and appends what fn published to the outbox just before the
// commit, in one statement for as many as the database takes. The commit wakes the relays of this process.
func (o *Outbox) InTx(ctx context.Context, fn func(ctx context.Context, tx *Tx) error) error {
	return o.db.InTx(ctx, func(ctx context.Context, dtx *database.Tx) error {
		tx := &Tx{Tx: dtx, outbox: o}
		if err := fn(ctx, tx); err != nil {
			return err
		}
		if err := refused(tx.pending); err != nil {
			return err
		}
		if len(tx.pending) == 0 {
			return nil
		}
		if err := insert(ctx, dtx, tx.pending); err != nil {
			return err
		}
		dtx.AfterCommit(o.wake)
		return nil
	})
}

// Publish makes an event with body under key and queues it behind what was published before. Cause and trace come from
// ctx. An event that could never be sent is refused here, as Permanent: too large, without key or topic, not valid.
func (tx *Tx) Publish(ctx context.Context, key string, body event.Body) (event.Event, error) {
	e, err := tx.outbox.factory.New(ctx, body.EventType(), key, body)
	if err != nil {
		return event.Event{}, fault.Permanentf("publish %s: %w", body.EventType(), err)
	}
	if validate := tx.outbox.opts.Validate; validate != nil {
		if err := validate(e); err != nil {
			return event.Event{}, fault.Permanentf("publish %s: %w", e.Type, err)
		}
	}
	if err := tx.queue(event.Addressed{Topic: body.EventTopic(), Event: e}); err != nil {
		return event.Event{}, err
	}
	return e, nil
}

// Forward queues an event as it is, with its own id and time. One that could never be sent makes InTx fail as
// Permanent when fn has returned.
func (tx *Tx) Forward(a event.Addressed) {
	if err := tx.queue(a); err != nil {
		tx.pending = append(tx.pending, row{refused: err})
	}
}

// Now is the factory's clock, in whole microseconds: what PostgreSQL keeps, so that a time that is answered or published
// before it is stored is the one that is read back.
func (tx *Tx) Now() time.Time { return tx.outbox.factory.Now().UTC().Truncate(time.Microsecond) }

// Mark returns how many events are queued, for Rewind. It goes with a savepoint in the database.
func (tx *Tx) Mark() int { return len(tx.pending) }

// Rewind forgets the events that were queued since Mark returned mark.
func (tx *Tx) Rewind(mark int) {
	clear(tx.pending[mark:])
	tx.pending = tx.pending[:mark]
}

// Savepoint is database.Tx.Savepoint, which also forgets the events that fn queued, and looks for those that Forward
// could not queue.
func (tx *Tx) Savepoint(ctx context.Context, fn func() error) (undone, err error) {
	mark := tx.Mark()
	undone, err = tx.Tx.Savepoint(ctx, func() error {
		if err := fn(); err != nil {
			return err
		}
		return refused(tx.pending[mark:])
	})
	if undone != nil {
		tx.Rewind(mark)
	}
	return undone, err
}

func refused(rows []row) error {
	for _, r := range rows {
		if r.refused != nil {
			return r.refused
		}
	}
	return nil
}

// queue checks that the row can be stored, read back and sent, and puts it behind the others.
func (tx *Tx) queue(a event.Addressed) error {
	e := a.Event
	refuse := func(format string, args ...any) error {
		return fault.Permanentf("publish %s %s: %w", e.Type, e.ID, fmt.Errorf(format, args...))
	}
	headers, err := encodeHeaders(e)
	if err != nil {
		return refuse("encode headers: %w", err)
	}
	if _, err := event.FromHeaders(e.Headers(), e.Data); err != nil {
		return refuse("%w", err)
	}
	if a.Topic == "" {
		return refuse("the topic is missing")
	}
	if n := len(e.Data) + len(headers); n > tx.outbox.opts.MaxBytes {
		return refuse("body and headers have %d bytes, at most %d are allowed", n, tx.outbox.opts.MaxBytes)
	}
	r := row{
		id: e.ID, key: e.Key, typ: e.Type, topic: a.Topic, headers: headers, payload: string(e.Data), at: tx.Now(),
	}
	for _, text := range []string{r.id, r.key, r.typ, r.topic, r.payload} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			return refuse("id, key, type, topic and body must be UTF-8 without NUL") // PostgreSQL's text
		}
	}
	tx.pending = append(tx.pending, r)
	return nil
}

// insert appends rows; their seq ascends in their order.
func insert(ctx context.Context, tx *database.Tx, rows []row) error {
	for chunk := range slices.Chunk(rows, tx.Dialect().Batch()) {
		texts := func(of func(row) string) database.Column {
			values := make([]string, len(chunk))
			for i, r := range chunk {
				values[i] = of(r)
			}
			return database.Texts(values)
		}
		at := make([]time.Time, len(chunk))
		for i, r := range chunk {
			at[i] = r.at
		}
		values, args := tx.Dialect().Columns(
			texts(func(r row) string { return r.id }),
			texts(func(r row) string {
				aggregate, _, _ := strings.Cut(r.typ, ".")
				return aggregate
			}),
			texts(func(r row) string { return r.key }), texts(func(r row) string { return r.typ }), texts(func(r row) string { return r.topic }),
			texts(func(r row) string { return r.headers }), texts(func(r row) string { return r.payload }), database.Times(at),
		)
		err := tx.Later(ctx, database.Statement{
			Query: `INSERT INTO outbox (id, aggregatetype, aggregateid, type, topic, headers, payload, created_at) ` + values, Args: args,
			Failed: func(err error) error { return fmt.Errorf("append to outbox: %w", database.Classify(err)) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// wake tells every relay of this process that there is something to send. A relay that was told already is not told
// twice: it reads everything when it comes to it.
func (o *Outbox) wake() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range o.wakes {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

func (o *Outbox) addWake() chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := make(chan struct{}, 1)
	o.wakes = append(o.wakes, w)
	return w
}
