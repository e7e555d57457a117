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

// Store is a service's table of dead letters, with its jobs and its audit trail.
type Store struct {
	db   *database.DB
	send Sender
	now  func() time.Time
	// settled are called by settle.
	settled []SettledFunc
	// begun has a token when a job was begun or stopped here.
	begun chan struct{}
}

// SettledFunc is told, in the transaction that does it, which letters become Redriven or Discarded.
type SettledFunc func(ctx context.Context, tx *database.Tx, ids []string, to State) error

// NewStore returns the store in db; redriven letters go out through send.
func NewStore(db *database.DB, send Sender, now func() time.Time) *Store {
	return &Store{db: db, send: send, now: now, begun: make(chan struct{}, 1)}
}

// OnSettled has fn called whenever letters are settled. It is for wiring, before anything runs.
func (s *Store) OnSettled(fn SettledFunc) { s.settled = append(s.settled, fn) }

const columns = `id, consumer_group, original_topic, original_partition, original_offset, original_timestamp,
	record_key, record_value, headers, event_id, event_type, error_type, error_message, retries, failures, failed_at,
	state, updated_at, actor, reason, cause, omitted, edits, job_id`

// listed are columns without what may be large.
const listed = `id, consumer_group, original_topic, original_partition, original_offset, original_timestamp,
	record_key, NULL, '{}', event_id, event_type, error_type, error_message, retries, failures, failed_at,
	state, updated_at, actor, reason, cause, omitted, edits, job_id`

// Record writes a letter, or counts one more failure of a letter it has, which then waits again. A failure that was
// counted changes nothing, and neither does any once the letter is settled: the topic may be read again, and a message
// that was given up twice, because its service died in between, has the same failure in the topic twice. Which failure it
// is the letter says itself (HeaderFailures): the clocks of those who failed need not agree. Letters of before that do
// not say so go by their time.
//
// The last failure's bytes are those that were tried last. They are not taken over where an operator edited the letter,
// nor where they are missing.
func (s *Store) Record(ctx context.Context, tx *database.Tx, l Letter) error {
	headers, err := json.Marshal(l.Headers)
	if err != nil {
		return fmt.Errorf("encode headers of dead letter %s: %w", l.ID, err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO dead_letters (`+columns+`, key_text)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, '', '', $19, $20, 0, '', $21)
		ON CONFLICT (id) DO UPDATE SET
			state = 'failed_again', failures = CASE WHEN $22 THEN dead_letters.failures + 1 ELSE excluded.failures END, error_type = excluded.error_type,
			error_message = excluded.error_message, cause = excluded.cause, retries = excluded.retries,
			headers = CASE WHEN excluded.omitted <> '' THEN dead_letters.headers ELSE excluded.headers END,
			record_value = CASE WHEN excluded.omitted <> '' OR dead_letters.edits > 0 THEN dead_letters.record_value ELSE excluded.record_value END,
			failed_at = excluded.failed_at, updated_at = excluded.updated_at
		WHERE dead_letters.settled_at IS NULL AND
			CASE WHEN $22 THEN dead_letters.failed_at < excluded.failed_at ELSE dead_letters.failures < excluded.failures END`,
		printable(l.ID), l.Group, printable(l.Topic), l.Partition, l.Offset, l.Timestamp.UTC(), l.Key, l.Value,
		string(headers), printable(l.EventID), printable(l.EventType), printable(l.ErrorType), printable(l.Error),
		l.Retries, max(l.Failures, 1), l.FailedAt.UTC(), string(l.State), s.now().UTC(), l.Cause, printable(l.Omitted), keyText(l.Key), l.Failures == 0)
	if err != nil {
		return fmt.Errorf("record dead letter %s: %w", l.ID, database.Classify(err))
	}
	return nil
}

// printable drops what PostgreSQL's text type refuses: these columns are for reading, the bytes are kept elsewhere.
func printable(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// Get returns one letter, or ErrNotFound.
func (s *Store) Get(ctx context.Context, id string) (Letter, error) {
	return found(scan(s.db.QueryRowContext(ctx, `SELECT `+columns+` FROM dead_letters WHERE id = $1`, id)))
}

// settle is the one place where letters become Redriven or Discarded. The condition says which, its arguments are
// numbered from $6. It returns the ids of those that were not so already.
func (s *Store) settle(ctx context.Context, tx *database.Tx, to State, by By, job string, condition string, args ...any) ([]string, error) {
	ids, err := texts(tx.QueryContext(ctx, `UPDATE dead_letters SET state = $1, updated_at = $2, settled_at = $2,
		actor = CASE WHEN $3 = '' THEN actor ELSE $3 END, reason = CASE WHEN $3 = '' THEN reason ELSE $4 END,
		job_id = CASE WHEN $5 = '' THEN job_id ELSE $5 END
		WHERE `+condition+` RETURNING id`, append([]any{string(to), s.now().UTC(), by.Actor, by.Reason, job}, args...)...))
	if err != nil {
		return nil, database.Classify(err)
	}
	if len(ids) > 0 {
		err = s.tell(ctx, tx, ids, to)
	}
	return ids, err
}

func (s *Store) tell(ctx context.Context, tx *database.Tx, ids []string, to State) error {
	for _, fn := range s.settled {
		if err := fn(ctx, tx, ids, to); err != nil {
			return err
		}
	}
	return nil
}

// texts reads rows of one text each.
func texts(rows *sql.Rows, err error) (all []string, _ error) {
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// MarkRedriven writes, in the transaction of the handler that succeeded, that the letter has been handled.
func (s *Store) MarkRedriven(ctx context.Context, tx *database.Tx, id string) error {
	ids, err := s.settle(ctx, tx, Redriven, By{}, "", `id = $6 AND state <> 'redriven'`, id)
	if err == nil && len(ids) == 0 {
		err = s.tell(ctx, tx, []string{id}, Redriven) // the table may not know the letter, and the message was handled all the same
	}
	if err != nil {
		return fmt.Errorf("mark dead letter %s redriven: %w", id, err)
	}
	return nil
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
		&l.State, &l.UpdatedAt, &l.Actor, &l.Reason, &l.Cause, &l.Omitted, &l.Edits, &l.Job)
	if err != nil {
		return Letter{}, err
	}
	if err := json.Unmarshal([]byte(headers), &l.Headers); err != nil {
		return Letter{}, fmt.Errorf("headers of dead letter %s: %w", l.ID, err)
	}
	l.Timestamp, l.FailedAt, l.UpdatedAt = l.Timestamp.UTC(), l.FailedAt.UTC(), l.UpdatedAt.UTC()
	return l, nil
}

// Purge forgets letters that were settled, audit entries that were written and jobs that ended at the given instant or
// before, and what is left of the selections of jobs that are over. Letters that are not settled stay for ever, and what
// was done to a letter, with the bytes that an edit replaced, stays as long as the letter.
func (s *Store) Purge(ctx context.Context, upTo time.Time, limit int) error {
	for _, t := range []struct{ table, age, keep string }{
		{"dead_letters", "settled_at", ""},
		{"dead_letter_audit", "at", "EXISTS (SELECT 1 FROM dead_letters WHERE id = letter_id)"},
		{"dead_letter_jobs", "ended_at", ""},
	} {
		if _, err := s.db.Purge(ctx, t.table, t.age, t.keep, upTo, limit); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		result, err := s.db.ExecContext(ctx, `DELETE FROM dead_letter_job_items WHERE (job, seq) IN (
			SELECT job, seq FROM dead_letter_job_items WHERE job NOT IN (SELECT id FROM dead_letter_jobs WHERE live) LIMIT $1)`, limit)
		if err != nil {
			return fmt.Errorf("purge selections: %w", err)
		}
		if n, err := result.RowsAffected(); err != nil || n < int64(limit) {
			return err
		}
	}
	return nil
}
