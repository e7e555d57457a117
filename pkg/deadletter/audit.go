package deadletter

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
)

// Entry is one line of the audit trail: who did what to which letter or job, when and why.
type Entry struct {
	Seq int64
	At  time.Time
	By
	Verb string
	// Letter or Job may be empty; both are set where a job took a letter.
	Letter, Job string
	Detail      string
	// FailedAt, Error, as "type: message", and Retries are the letter's last failure when the verb was pressed, which the
	// letter itself forgets when it fails again. They are zero for a verb on a job, and where an entry is older than they are.
	FailedAt time.Time
	Error    string
	Retries  int
	// Before are the bytes that an edit replaced, else nil. Audit leaves them out.
	Before []byte
}

// auditLetter writes a verb on one letter, which is given as it was before.
func (s *Store) auditLetter(ctx context.Context, tx *database.Tx, l Letter, e Entry) error {
	e.Letter, e.FailedAt, e.Error, e.Retries = l.ID, l.FailedAt, l.ErrorType+": "+l.Error, l.Retries
	return s.audit(ctx, tx, e)
}

func (s *Store) audit(ctx context.Context, tx *database.Tx, e Entry) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO dead_letter_audit (at, actor, verb, reason, letter_id, job_id, detail, failed_at, error, retries, before)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, s.now().UTC(), e.Actor, e.Verb, e.Reason, e.Letter, e.Job, e.Detail,
		nullTime(e.FailedAt), e.Error, e.Retries, e.Before)
	if err != nil {
		return fmt.Errorf("audit trail: %w", database.Classify(err))
	}
	return nil
}

// auditAll writes that a job took these letters.
func (s *Store) auditAll(ctx context.Context, tx *database.Tx, j Job, letters []string) error {
	n := len(letters)
	if n == 0 {
		return nil
	}
	same := func(text string) database.Column { return database.Texts(slices.Repeat([]string{text}, n)) }
	rows, args := tx.Dialect().Columns(database.Times(slices.Repeat([]time.Time{s.now().UTC()}, n)),
		same(j.By.Actor), same(j.Verb), same(j.By.Reason), database.Texts(letters), same(j.ID))
	_, err := tx.ExecContext(ctx, `INSERT INTO dead_letter_audit (at, actor, verb, reason, letter_id, job_id, failed_at, error, retries)
		WITH taken (at, actor, verb, reason, letter_id, job_id) AS (`+rows+`)
		SELECT taken.*, failed_at, error_type || ': ' || error_message, retries FROM taken JOIN dead_letters ON id = letter_id`, args...)
	if err != nil {
		return fmt.Errorf("audit trail: %w", database.Classify(err))
	}
	return nil
}

// AuditFilter selects entries; zero fields select all.
type AuditFilter struct {
	Letter, Job string
	// Before continues behind the entry with this Seq.
	Before int64
	// Limit is the most entries returned.
	Limit int
}

// Audit returns entries, the last first.
func (s *Store) Audit(ctx context.Context, f AuditFilter) ([]Entry, error) {
	var c conditions
	if f.Letter != "" {
		c.add(`letter_id = $%d`, f.Letter)
	}
	if f.Job != "" {
		c.add(`job_id = $%d`, f.Job)
	}
	if f.Before == 0 {
		f.Before = math.MaxInt64
	}
	c.add(`seq < $%d`, f.Before)
	c.args = append(c.args, f.Limit)
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf(`SELECT seq, at, actor, verb, reason, letter_id, job_id, detail, failed_at, error, retries, NULL
		FROM dead_letter_audit%s ORDER BY seq DESC LIMIT $%d`, c.where(), len(c.args)), c.args...)
	if err != nil {
		return nil, fmt.Errorf("audit trail: %w", database.Classify(err))
	}
	defer rows.Close()
	var all []Entry
	for rows.Next() {
		e, err := scanEntry(rows)
		if err != nil {
			return nil, fmt.Errorf("audit trail: %w", err)
		}
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("audit trail: %w", database.Classify(err))
	}
	return all, nil
}

// Entry returns one entry with the bytes that it replaced, or ErrNotFound.
func (s *Store) Entry(ctx context.Context, seq int64) (Entry, error) {
	e, err := scanEntry(s.db.QueryRowContext(ctx, `SELECT seq, at, actor, verb, reason, letter_id, job_id, detail, failed_at, error, retries, before
		FROM dead_letter_audit WHERE seq = $1`, seq))
	if errors.Is(err, sql.ErrNoRows) {
		return Entry{}, ErrNotFound
	}
	return e, database.Classify(err)
}

func scanEntry(row database.Scanner) (e Entry, err error) {
	var failedAt sql.NullTime
	err = row.Scan(&e.Seq, &e.At, &e.Actor, &e.Verb, &e.Reason, &e.Letter, &e.Job, &e.Detail, &failedAt, &e.Error, &e.Retries, &e.Before)
	e.At, e.FailedAt = e.At.UTC(), failedAt.Time.UTC()
	return e, err
}

// instant reads a time that is the result of an expression, which SQLite gives as text.
type instant struct{ at *time.Time }

// Scan implements sql.Scanner.
func (i instant) Scan(value any) error {
	var t sql.NullTime
	if text, is := value.(string); is {
		parsed, err := time.Parse("2006-01-02 15:04:05.999999999-07:00", text)
		if err != nil {
			return errors.Join(errors.New("not SQLite's time"), err)
		}
		value = parsed
	}
	if err := t.Scan(value); err != nil {
		return err
	}
	*i.at = t.Time.UTC()
	return nil
}
