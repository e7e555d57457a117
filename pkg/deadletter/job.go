package deadletter

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/orderflow/orderflow/pkg/database"
)

// Verbs of a job.
const (
	VerbRedrive = "redrive"
	VerbDiscard = "discard"
)

// JobState is how far a job is.
type JobState string

// The states of a job: canary and running take letters, stopping waits for those that are under way, and the others are over.
const (
	Canary   JobState = "canary"
	Running  JobState = "running"
	Stopping JobState = "stopping"
	Stopped  JobState = "stopped"
	Done     JobState = "done"
)

// Bounds of a job.
const (
	MaxSelection = 1_000_000
	MaxCanary    = 1000
	MaxRate      = 10_000
)

// Errors of jobs.
var (
	// ErrBusy: another job is not over.
	ErrBusy = errors.New("another job is not over")
	// ErrNothing: the filter matches no letter that the verb fits.
	ErrNothing = errors.New("no letter matches that waits")
	// ErrTooMany: the filter matches more than JobRequest.Max.
	ErrTooMany = errors.New("more letters match than the job may take")
)

// JobRequest is a verb on all letters that a filter matches when it is begun and that wait for an operator.
type JobRequest struct {
	// Verb is VerbRedrive or VerbDiscard.
	Verb string
	// Filter's State is empty, Open, Waiting or FailedAgain; empty is Open.
	Filter Filter
	By     By
	// Canary, if not 0, is how many letters go first, every one of which must be handled before the rest goes.
	Canary int
	// Rate is the most letters a second; 0 is no limit.
	Rate int
	// MaxFailures is how many letters may fail again; with one more the job stops.
	MaxFailures int
	// Max is the most letters that it may take, 1 to MaxSelection.
	Max int
}

// Job is a JobRequest at work.
type Job struct {
	JobRequest
	ID    string
	State JobState
	// Total letters were selected. Claimed of them have been looked at, and Taken of these still waited: they were
	// redriven or discarded. The others had been settled otherwise meanwhile.
	Total, Claimed, Taken int
	// Of those that were taken, Settled are handled or discarded and Failed have failed again; the rest is under way.
	Settled, Failed int
	// Detail says why it stopped, or what stands in its way.
	Detail               string
	CreatedAt, UpdatedAt time.Time
	// EndedAt is zero until it is over.
	EndedAt time.Time

	live                       bool
	sent                       int
	step                       int64
	busyUntil, nextAt, stopped time.Time
}

// Over tells whether the job has ended.
func (j Job) Over() bool { return !j.live }

const jobColumns = `id, verb, state, live, filter, actor, reason, canary, rate, max_failures, total, claimed, sent, taken, settled, failed,
	detail, created_at, updated_at, stopped_at, ended_at, busy_until, step, next_at`

// matching is the request's filter, narrowed to what its verb fits.
func (r JobRequest) matching(c *conditions) {
	if r.Filter.State == "" {
		r.Filter.State = Open
	}
	r.Filter.conditions(c)
	if r.Verb == VerbRedrive {
		c.add(`omitted = ''`)
	}
}

// Preview is what a job would take.
type Preview struct {
	Total int
	// Causes are the most frequent ones, and Letters those that failed last.
	Causes  []CauseCount
	Letters []Letter
}

// previewed bounds a preview's lists.
const previewed = 10

// Preview tells what Begin would take now, and changes nothing. Its errors are those of Begin.
func (s *Store) Preview(ctx context.Context, r JobRequest) (p Preview, err error) {
	var c conditions
	r.matching(&c)
	if err := s.db.QueryRowContext(ctx, `SELECT COUNT(*) FROM dead_letters`+c.where(), c.args...).Scan(&p.Total); err != nil {
		return p, fmt.Errorf("preview: %w", database.Classify(err))
	}
	if err := r.check(p.Total); err != nil {
		return p, err
	}
	if p.Causes, err = s.causes(ctx, c, previewed); err != nil {
		return p, err
	}
	p.Letters, err = s.letters(ctx, c, lastFirst, previewed)
	return p, err
}

func (r JobRequest) check(total int) error {
	switch {
	case total == 0:
		return ErrNothing
	case total > r.Max:
		return fmt.Errorf("%w: it may take %d", ErrTooMany, r.Max)
	}
	return nil
}

// frozen numbers the letters that match in the order in which a job takes them: that of the records in each partition, and
// between partitions that of their timestamps, which may run backwards in one.
const frozen = `SELECT $1, ROW_NUMBER() OVER (ORDER BY at, original_topic, original_partition, original_offset, id), id FROM (
	SELECT id, original_topic, original_partition, original_offset,
		MAX(original_timestamp) OVER (PARTITION BY original_topic, original_partition ORDER BY original_offset) AS at
	FROM dead_letters%s) AS matching LIMIT $%d`

// Begin writes down which letters match and that the job is to be done; Run does it, here or in another replica. While a
// job is not over it is ErrBusy.
func (s *Store) Begin(ctx context.Context, r JobRequest) (Job, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Job{}, fmt.Errorf("begin job: %w", err)
	}
	filter, err := json.Marshal(r.Filter)
	if err != nil {
		return Job{}, fmt.Errorf("begin job: %w", err)
	}
	j := Job{JobRequest: r, ID: id.String(), State: Running, live: true, CreatedAt: s.now().UTC()}
	if r.Canary > 0 {
		j.State = Canary
	}
	err = s.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) error {
		if live, err := liveJob(ctx, tx); err != nil {
			return err
		} else if live != "" {
			return fmt.Errorf("%w: %s", ErrBusy, live)
		}
		c := conditions{args: []any{j.ID}}
		r.matching(&c)
		c.args = append(c.args, r.Max+1)
		result, err := tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO dead_letter_job_items (job, seq, letter) `+frozen, c.where(), len(c.args)), c.args...)
		if err != nil {
			return database.Classify(err)
		}
		total, err := result.RowsAffected()
		if err != nil {
			return err
		}
		j.Total = int(total)
		if err := r.check(j.Total); err != nil {
			return err
		}
		long := time.Unix(0, 0).UTC()
		_, err = tx.ExecContext(ctx, `INSERT INTO dead_letter_jobs (`+jobColumns+`)
			VALUES ($1, $2, $3, TRUE, $4, $5, $6, $7, $8, $9, $10, 0, 0, 0, 0, 0, '', $11, $11, NULL, NULL, $12, 0, $12)`,
			j.ID, j.Verb, string(j.State), string(filter), j.By.Actor, j.By.Reason, j.Canary, j.Rate, j.MaxFailures, j.Total, j.CreatedAt, long)
		if err != nil {
			return database.Classify(err)
		}
		detail := fmt.Sprintf("%d letters by %s, canary %d, rate %d, max_failures %d", j.Total, filter, j.Canary, j.Rate, j.MaxFailures)
		return s.audit(ctx, tx, Entry{By: r.By, Verb: r.Verb + "_job", Job: j.ID, Detail: detail})
	})
	if database.IsUnique(err) { // another was begun at the same moment
		err = ErrBusy
	}
	if err != nil {
		return Job{}, fmt.Errorf("begin job: %w", err)
	}
	j.UpdatedAt = j.CreatedAt
	s.wake()
	return j, nil
}

func liveJob(ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}) (string, error) {
	ids, err := texts(q.QueryContext(ctx, `SELECT id FROM dead_letter_jobs WHERE live`))
	if err != nil || len(ids) == 0 {
		return "", database.Classify(err)
	}
	return ids[0], nil
}

// Job returns one job, or ErrNotFound.
func (s *Store) Job(ctx context.Context, id string) (Job, error) {
	return foundJob(scanJob(s.db.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM dead_letter_jobs WHERE id = $1`, id)))
}

// Jobs returns the last jobs, at most limit, the last begun first. Those before a job's id are continued behind it.
func (s *Store) Jobs(ctx context.Context, before string, limit int) ([]Job, error) {
	var c conditions
	if before != "" {
		c.add(`id < $%d`, before) // ids are in the order of time
	}
	c.args = append(c.args, limit)
	rows, err := s.db.QueryContext(ctx, fmt.Sprintf(`SELECT %s FROM dead_letter_jobs%s ORDER BY id DESC LIMIT $%d`, jobColumns, c.where(), len(c.args)), c.args...)
	if err != nil {
		return nil, fmt.Errorf("list jobs: %w", database.Classify(err))
	}
	defer rows.Close()
	var jobs []Job
	for rows.Next() {
		j, err := scanJob(rows)
		if err != nil {
			return nil, fmt.Errorf("list jobs: %w", err)
		}
		jobs = append(jobs, j)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list jobs: %w", database.Classify(err))
	}
	return jobs, nil
}

// Stop has the job take no more letters; those under way are handled. A job that is stopped already is returned as it
// is, one that is done is ErrState.
func (s *Store) Stop(ctx context.Context, id string, by By) (Job, error) {
	var j Job
	err := s.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) (err error) {
		if j, err = s.lockJob(ctx, tx, id); err != nil {
			return err
		}
		switch j.State {
		case Done:
			return fmt.Errorf("%w: job %s is done", ErrState, id)
		case Stopping, Stopped:
			return nil
		}
		j.stop(s.now().UTC(), "by "+by.Actor+": "+by.Reason)
		if err := s.save(ctx, tx, j); err != nil {
			return err
		}
		return s.audit(ctx, tx, Entry{By: by, Verb: "stop_job", Job: id})
	})
	s.wake()
	return j, err
}

func (j *Job) stop(now time.Time, why string) {
	j.State, j.Detail, j.stopped = Stopping, why, now
}

func (s *Store) wake() {
	select {
	case s.begun <- struct{}{}:
	default:
	}
}

func (s *Store) lockJob(ctx context.Context, tx *database.Tx, id string) (Job, error) {
	return foundJob(scanJob(tx.QueryRowContext(ctx, `SELECT `+jobColumns+` FROM dead_letter_jobs WHERE id = $1`+tx.ForUpdate(), id)))
}

func foundJob(j Job, err error) (Job, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return Job{}, ErrNotFound
	}
	return j, database.Classify(err)
}

func scanJob(row database.Scanner) (Job, error) {
	var j Job
	var filter string
	var stopped, ended sql.NullTime
	err := row.Scan(&j.ID, &j.Verb, &j.State, &j.live, &filter, &j.By.Actor, &j.By.Reason, &j.Canary, &j.Rate, &j.MaxFailures,
		&j.Total, &j.Claimed, &j.sent, &j.Taken, &j.Settled, &j.Failed, &j.Detail, &j.CreatedAt, &j.UpdatedAt, &stopped, &ended,
		&j.busyUntil, &j.step, &j.nextAt)
	if err != nil {
		return Job{}, err
	}
	if err := json.Unmarshal([]byte(filter), &j.Filter); err != nil {
		return Job{}, fmt.Errorf("filter of job %s: %w", j.ID, err)
	}
	j.CreatedAt, j.UpdatedAt, j.stopped, j.EndedAt = j.CreatedAt.UTC(), j.UpdatedAt.UTC(), stopped.Time.UTC(), ended.Time.UTC()
	return j, nil
}

// save writes what changes of a job, which is locked.
func (s *Store) save(ctx context.Context, tx *database.Tx, j Job) error {
	_, err := tx.ExecContext(ctx, `UPDATE dead_letter_jobs SET state = $1, live = $2, claimed = $3, sent = $4, taken = $5, settled = $6,
		failed = $7, detail = $8, updated_at = $9, stopped_at = $10, ended_at = $11, busy_until = $12, step = $13, next_at = $14 WHERE id = $15`,
		string(j.State), j.live, j.Claimed, j.sent, j.Taken, j.Settled, j.Failed, j.Detail, s.now().UTC(),
		nullTime(j.stopped), nullTime(j.EndedAt), j.busyUntil.UTC(), j.step, j.nextAt.UTC(), j.ID)
	if err != nil {
		return fmt.Errorf("save job %s: %w", j.ID, database.Classify(err))
	}
	return nil
}

func nullTime(t time.Time) sql.NullTime { return sql.NullTime{Time: t.UTC(), Valid: !t.IsZero()} }
