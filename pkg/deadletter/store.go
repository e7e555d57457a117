package deadletter

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
)

//go:embed migrations/*.sql
var files embed.FS

// Migrations makes the table: DB.Migrate(ctx, "dead_letters", Migrations).
var Migrations = database.Folder(files)

// Errors of the verbs.
var (
	// ErrNotFound: no letter has this id.
	ErrNotFound = errors.New("no such dead letter")
	// ErrState: the verb does not fit the letter's state.
	ErrState = errors.New("the dead letter's state does not allow this")
)

// stuckAfter is how long a letter may be redriving before redrive may be pressed again: its record was lost before it
// reached the topic, or its handler is still at it, and then the inbox drops the second delivery.
const stuckAfter = time.Minute

// Sender puts a record on its topic.
type Sender interface {
	SendRecord(ctx context.Context, r kafka.Record) error
}

// Store is a service's table of dead letters.
type Store struct {
	db   *database.DB
	send Sender
	now  func() time.Time
	// settled are called for letters that become Redriven or Discarded.
	settled []SettledFunc
}

// SettledFunc is told, in the transaction that does it, which letters become Redriven or Discarded.
type SettledFunc func(ctx context.Context, tx *database.Tx, ids []string, to State) error

// OnSettled has fn called whenever letters are settled. It is for wiring, before anything runs.
func (s *Store) OnSettled(fn SettledFunc) { s.settled = append(s.settled, fn) }

// NewStore returns the store in db; redriven letters go out through send.
func NewStore(db *database.DB, send Sender, now func() time.Time) *Store {
	return &Store{db: db, send: send, now: now}
}

const columns = `id, consumer_group, original_topic, original_partition, original_offset, original_timestamp,
	record_key, record_value, headers, event_id, event_type, error_type, error_message, retries, failures, failed_at,
	state, updated_at, actor, reason`

// Record writes a letter, or counts one more failure of a letter it has and puts that back to waiting. The same
// failure a second time changes nothing, and neither does any failure once the letter is settled: a message that was
// given up twice, because its service died in between, has its second failure in the topic behind the first, and that
// may be read when an operator is done already.
func (s *Store) Record(ctx context.Context, tx *database.Tx, l Letter) error {
	headers, err := json.Marshal(l.Headers)
	if err != nil {
		return fmt.Errorf("encode headers of dead letter %s: %w", l.ID, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO dead_letters (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, 1, $15, 'waiting', $16, '', '')
		ON CONFLICT (id) DO UPDATE SET
			state = 'waiting', failures = dead_letters.failures + 1, error_type = excluded.error_type,
			error_message = excluded.error_message, retries = excluded.retries, headers = excluded.headers,
			failed_at = excluded.failed_at, updated_at = excluded.updated_at
		WHERE dead_letters.failed_at < excluded.failed_at AND dead_letters.state IN ('waiting', 'redriving')`,
		printable(l.ID), l.Group, printable(l.Topic), l.Partition, l.Offset, l.Timestamp.UTC(), l.Key, l.Value,
		string(headers), printable(l.EventID), printable(l.EventType), printable(l.ErrorType), printable(l.Error),
		l.Retries, l.FailedAt.UTC(), s.now().UTC())
	if err != nil {
		return fmt.Errorf("record dead letter %s: %w", l.ID, database.Classify(err))
	}
	return nil
}

// printable drops what PostgreSQL's text type refuses: these columns are for reading, the bytes are kept elsewhere.
func printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Filter selects letters; zero fields select all.
type Filter struct {
	State State
	// After continues behind this letter in List's order.
	After Position
	// Limit is the most letters returned.
	Limit int
}

// Position is a place in List's order.
type Position struct {
	FailedAt time.Time `json:"at"`
	ID       string    `json:"id"`
}

// List returns letters, the last failed first.
func (s *Store) List(ctx context.Context, f Filter) ([]Letter, error) {
	after := f.After
	if after.ID == "" {
		after.FailedAt = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM dead_letters
		WHERE ($1 = '' OR state = $1) AND (failed_at < $2 OR (failed_at = $2 AND id > $3))
		ORDER BY failed_at DESC, id LIMIT $4`, string(f.State), after.FailedAt.UTC(), after.ID, f.Limit)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", database.Classify(err))
	}
	defer rows.Close()
	var letters []Letter
	for rows.Next() {
		l, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list dead letters: %w", err)
		}
		letters = append(letters, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list dead letters: %w", database.Classify(err))
	}
	return letters, nil
}

// Get returns one letter, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (Letter, error) {
	return found(scan(s.db.QueryRowContext(ctx, `SELECT `+columns+` FROM dead_letters WHERE id = $1`, id)))
}

// Count returns the number of letters by state.
func (s *Store) Count(ctx context.Context) (map[State]int, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT state, COUNT(*) FROM dead_letters GROUP BY state`)
	if err != nil {
		return nil, fmt.Errorf("count dead letters: %w", database.Classify(err))
	}
	defer rows.Close()
	counts := map[State]int{Waiting: 0, Redriving: 0, Redriven: 0, Discarded: 0}
	for rows.Next() {
		var state State
		var n int
		if err := rows.Scan(&state, &n); err != nil {
			return nil, fmt.Errorf("count dead letters: %w", err)
		}
		counts[state] = n
	}
	return counts, database.Classify(rows.Err())
}

// By is who asks for a verb, and why.
type By struct{ Actor, Reason string }

// Redrive hands the letter back to its group. A letter that is on its way or has been handled is returned as it is;
// a discarded one is ErrState.
func (s *Store) Redrive(ctx context.Context, id string, by By) (Letter, error) {
	send := false
	l, err := s.change(ctx, id, by, func(l Letter) (to State, change bool, err error) {
		switch {
		case l.State == Discarded:
			return "", false, fmt.Errorf("%w: %s is discarded", ErrState, id)
		case l.Headers[HeaderOmitted] != "" && l.State != Redriven:
			return "", false, fmt.Errorf("%w: %s was too large to be kept whole (omitted: %s)", ErrState, id, l.Headers[HeaderOmitted])
		case l.State == Waiting, l.State == Redriving && s.now().Sub(l.UpdatedAt) > stuckAfter:
			send = true
			return Redriving, true, nil
		default:
			return l.State, false, nil
		}
	})
	if err != nil || !send {
		return l, err
	}
	if err := s.send.SendRecord(ctx, l.Record()); err != nil {
		// The record may be in the topic all the same; then its handler, or a second redrive and the inbox, settle it.
		back := s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE dead_letters SET state = 'waiting' WHERE id = $1 AND state = 'redriving'`, id)
			return err
		})
		return l, fmt.Errorf("redrive %s: %w", id, errors.Join(err, back))
	}
	return l, nil
}

// Discard gives the letter up for good. A letter that is discarded already is returned as it is; one that is on its
// way or has been handled is ErrState.
func (s *Store) Discard(ctx context.Context, id string, by By) (Letter, error) {
	return s.change(ctx, id, by, func(l Letter) (to State, change bool, err error) {
		if l.State == Redriving || l.State == Redriven {
			return "", false, fmt.Errorf("%w: %s is %s", ErrState, id, l.State)
		}
		return Discarded, l.State != Discarded, nil
	})
}

// MarkRedriven writes, in the transaction of the handler that succeeded, that the letter has been handled.
func (s *Store) MarkRedriven(ctx context.Context, tx *database.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `UPDATE dead_letters SET state = 'redriven', updated_at = $2
		WHERE id = $1 AND state <> 'redriven'`, id, s.now().UTC())
	if err == nil {
		err = s.tell(ctx, tx, id, Redriven)
	}
	if err != nil {
		return fmt.Errorf("mark dead letter %s redriven: %w", id, database.Classify(err))
	}
	return nil
}

func (s *Store) tell(ctx context.Context, tx *database.Tx, id string, to State) error {
	for _, fn := range s.settled {
		if err := fn(ctx, tx, []string{id}, to); err != nil {
			return err
		}
	}
	return nil
}

// change moves one letter to the state that next names, under its row's lock. A letter that next leaves alone keeps
// its time, actor and reason.
func (s *Store) change(ctx context.Context, id string, by By, next func(Letter) (to State, change bool, err error)) (Letter, error) {
	var l Letter
	err := s.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		var err error
		l, err = found(scan(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM dead_letters WHERE id = $1`+tx.ForUpdate(), id)))
		if err != nil {
			return err
		}
		state, change, err := next(l)
		if err != nil || !change {
			return err
		}
		l.State, l.UpdatedAt, l.Actor, l.Reason = state, s.now().UTC(), by.Actor, by.Reason
		_, err = tx.ExecContext(ctx, `UPDATE dead_letters SET state = $2, updated_at = $3, actor = $4, reason = $5
			WHERE id = $1`, id, string(l.State), l.UpdatedAt, l.Actor, l.Reason)
		if err == nil && l.State == Discarded {
			err = s.tell(ctx, tx, id, Discarded)
		}
		return database.Classify(err)
	})
	return l, err
}

func found(l Letter, err error) (Letter, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return Letter{}, ErrNotFound
	}
	return l, database.Classify(err)
}

func scan(row interface{ Scan(...any) error }) (Letter, error) {
	var l Letter
	var headers string
	err := row.Scan(&l.ID, &l.Group, &l.Topic, &l.Partition, &l.Offset, &l.Timestamp, &l.Key, &l.Value, &headers,
		&l.EventID, &l.EventType, &l.ErrorType, &l.Error, &l.Retries, &l.Failures, &l.FailedAt,
		&l.State, &l.UpdatedAt, &l.Actor, &l.Reason)
	if err != nil {
		return Letter{}, err
	}
	if err := json.Unmarshal([]byte(headers), &l.Headers); err != nil {
		return Letter{}, fmt.Errorf("headers of dead letter %s: %w", l.ID, err)
	}
	l.Timestamp, l.FailedAt, l.UpdatedAt = l.Timestamp.UTC(), l.FailedAt.UTC(), l.UpdatedAt.UTC()
	return l, nil
}
