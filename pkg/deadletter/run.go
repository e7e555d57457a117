package deadletter

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"time"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/fault"
)

// How a job goes on. A batch is taken in one transaction and then sent; while letters are under way no more than
// window of them are, so that a threshold means something.
const (
	batchMax   = 256
	batchBytes = 8 << 20
	window     = 512
	senders    = 16
	// sendTimeout bounds the sending of a batch, and lease how long nobody else touches it.
	sendTimeout = 10 * time.Second
	lease       = 15 * time.Second
	// settleTimeout is how long a job that stops waits for the letters that are under way.
	settleTimeout = time.Minute
)

// Waits between two looks: for a job that another replica began, for letters that are under way, and after an error.
const (
	idlePause  = 2 * time.Second
	busyPause  = 50 * time.Millisecond
	errorPause = time.Second
)

// Run does the jobs until ctx ends. Any number of replicas may run it: a batch has one hand at a time, and one that was left
// in the middle is sent again, where the group's inbox drops what it has handled.
func (s *Store) Run(ctx context.Context, logger *slog.Logger) error {
	for {
		wait := idlePause
		id, err := liveJob(ctx, s.db)
		if err == nil && id != "" {
			wait, err = s.advance(ctx, id)
		}
		if err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "dead-letter job does not go on yet", "job", id, "error", err)
			wait = errorPause
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-s.begun:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// advance takes the job one batch further, if it is time, and returns how long to wait before the next.
func (s *Store) advance(ctx context.Context, id string) (wait time.Duration, err error) {
	var j Job
	mine := false
	err = s.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) (err error) {
		if j, err = s.lockJob(ctx, tx, id); err != nil || j.Over() {
			return err
		}
		if wait = j.busyUntil.Sub(s.now()); wait > 0 {
			wait = min(wait, idlePause)
			return nil // it is in somebody's hand
		}
		before := j
		mine, wait, err = s.claim(ctx, tx, &j)
		if err != nil {
			return err
		}
		if mine {
			j.busyUntil = s.now().Add(lease)
			j.step++
		}
		if j == before {
			return nil
		}
		return s.save(ctx, tx, j)
	})
	if err != nil || !mine {
		return wait, err
	}
	sending, cancel := context.WithTimeout(ctx, sendTimeout)
	sendErr := s.sendBatch(sending, j)
	cancel()
	// Also when the process stops: what was sent need not be sent again.
	return 0, errors.Join(sendErr, s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *database.Tx) error {
		return s.sent(ctx, tx, j, sendErr)
	}))
}

// claim decides what is next, and tells whether that is a batch, from sent to claimed, to be sent.
func (s *Store) claim(ctx context.Context, tx *database.Tx, j *Job) (mine bool, wait time.Duration, err error) {
	if j.sent < j.Claimed { // whoever took it did not get through
		if j.State != Stopping {
			return true, 0, nil
		}
		if err := s.putBack(ctx, tx, j); err != nil {
			return false, 0, err
		}
	}
	now := s.now()
	underWay, err := s.outcome(ctx, tx, j)
	if err != nil {
		return false, 0, err
	}
	if j.decide(now, underWay) {
		return false, 0, nil
	}
	n := min(batchMax, window-underWay, j.Total-j.Claimed)
	if j.State == Canary {
		n = min(n, j.Canary-j.Taken)
	}
	if j.Rate > 0 {
		n = min(n, max(1, j.Rate/4))
	}
	switch {
	case j.State == Stopping, n <= 0:
		return false, busyPause, nil
	case now.Before(j.nextAt):
		return false, min(j.nextAt.Sub(now), idlePause), nil
	}
	if n, err = s.fit(ctx, tx, *j, n); err != nil {
		return false, 0, err
	}
	ids, err := s.take(ctx, tx, *j, j.Claimed+n)
	if err != nil {
		return false, 0, err
	}
	j.Claimed += n
	j.Taken += len(ids)
	if j.Rate > 0 {
		j.nextAt = now.Add(time.Duration(len(ids)) * time.Second / time.Duration(j.Rate))
	}
	if j.Verb == VerbDiscard || len(ids) == 0 {
		j.sent = j.Claimed
		return false, 0, s.forget(ctx, tx, *j)
	}
	return true, 0, nil
}

// decide ends the job or one of its parts, and tells whether it is over.
func (j *Job) decide(now time.Time, underWay int) (over bool) {
	switch {
	case j.State == Canary && j.Failed > 0:
		j.stop(now, fmt.Sprintf("a letter of the canary of %d failed again", j.Canary))
	case j.State == Running && j.Failed > j.MaxFailures:
		j.stop(now, fmt.Sprintf("%d letters failed again, %d may", j.Failed, j.MaxFailures))
	case j.State == Canary && underWay == 0 && j.Taken >= j.Canary:
		j.State = Running
	}
	switch {
	case j.State == Stopping && underWay == 0:
		j.State = Stopped
	case j.State == Stopping && now.Sub(j.stopped) > settleTimeout:
		j.State = Stopped
		j.Detail += fmt.Sprintf("; %d letters are still under way", underWay)
	case j.State != Stopping && underWay == 0 && j.Claimed == j.Total:
		j.State = Done
	default:
		return false
	}
	j.live, j.EndedAt = false, now.UTC()
	return true
}

// outcome counts what became of the letters that were taken. It does not look at those that went well.
func (s *Store) outcome(ctx context.Context, tx *database.Tx, j *Job) (underWay int, err error) {
	if j.Verb == VerbDiscard {
		j.Settled = j.Taken
		return 0, nil
	}
	err = tx.QueryRowContext(ctx, `SELECT COALESCE(SUM(CASE WHEN state = 'redriving' THEN 1 ELSE 0 END), 0),
		COALESCE(SUM(CASE WHEN state = 'redriving' THEN 0 ELSE 1 END), 0)
		FROM dead_letters WHERE job_id = $1 AND job_id <> '' AND state <> 'redriven'`, j.ID).Scan(&underWay, &j.Failed)
	j.Settled = j.Taken - underWay - j.Failed
	return underWay, database.Classify(err)
}

// putBack has the letters of a batch that could not be sent wait again. Records of some may be in the topic all the same;
// then their handler, or another redrive and the inbox, settle them.
func (s *Store) putBack(ctx context.Context, tx *database.Tx, j *Job) error {
	result, err := tx.ExecContext(ctx, `UPDATE dead_letters SET state = CASE WHEN failures > 1 THEN 'failed_again' ELSE 'waiting' END, job_id = ''
		WHERE job_id = $1 AND state = 'redriving' AND id IN (SELECT letter FROM dead_letter_job_items WHERE job = $1 AND seq > $2 AND seq <= $3)`,
		j.ID, j.sent, j.Claimed)
	if err != nil {
		return database.Classify(err)
	}
	n, err := result.RowsAffected()
	j.Taken -= int(n)
	j.Claimed -= int(n)
	j.sent = j.Claimed
	return err
}

// fit returns how many of the next n letters are together no larger than can be sent in time, and at least one.
func (s *Store) fit(ctx context.Context, tx *database.Tx, j Job, n int) (int, error) {
	if j.Verb == VerbDiscard {
		return n, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT seq, COALESCE(LENGTH(record_value), 0) FROM dead_letter_job_items JOIN dead_letters ON id = letter
		WHERE job = $1 AND seq > $2 AND seq <= $3 ORDER BY seq`, j.ID, j.Claimed, j.Claimed+n)
	if err != nil {
		return 0, database.Classify(err)
	}
	defer rows.Close()
	for total := 0; rows.Next(); {
		var seq, size int
		if err := rows.Scan(&seq, &size); err != nil {
			return 0, err
		}
		if total += size; total > batchBytes && seq > j.Claimed+1 {
			return seq - 1 - j.Claimed, nil
		}
	}
	return n, database.Classify(rows.Err())
}

// take does the job's verb to those of the letters behind claimed, up to the given number, that still wait.
func (s *Store) take(ctx context.Context, tx *database.Tx, j Job, upTo int) (ids []string, err error) {
	const selected = open + ` AND id IN
		(SELECT letter FROM dead_letter_job_items WHERE job = %s AND seq > %s AND seq <= %s)`
	if j.Verb == VerbDiscard {
		ids, err = s.settle(ctx, tx, Discarded, j.By, j.ID, fmt.Sprintf(selected, "$6", "$7", "$8"), j.ID, j.Claimed, upTo)
	} else {
		ids, err = texts(tx.QueryContext(ctx, `UPDATE dead_letters SET state = 'redriving', updated_at = $1, actor = $2, reason = $3, job_id = $4
			WHERE `+fmt.Sprintf(selected, "$4", "$5", "$6")+` RETURNING id`, s.now().UTC(), j.By.Actor, j.By.Reason, j.ID, j.Claimed, upTo))
	}
	if err != nil {
		return nil, fmt.Errorf("job %s: %w", j.ID, database.Classify(err))
	}
	return ids, s.auditAll(ctx, tx, j, ids)
}

// sendBatch sends those of the batch that are still under way, in order for each key.
func (s *Store) sendBatch(ctx context.Context, j Job) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var lanes [senders]chan Letter
	ended := make(chan error, senders)
	for i := range lanes {
		lanes[i] = make(chan Letter)
		go func() {
			var err error
			for l := range lanes[i] {
				if err == nil {
					err = s.sendOne(ctx, l)
				}
				if err != nil {
					cancel(err)
				}
			}
			ended <- err
		}()
	}
	seed := maphash.MakeSeed()
	err = s.batch(ctx, j, func(l Letter) {
		lanes[maphash.Bytes(seed, l.Key)%senders] <- l
	})
	for i := range lanes {
		close(lanes[i])
	}
	for range lanes {
		if sendErr := <-ended; err == nil {
			err = sendErr
		}
	}
	if err != nil && context.Cause(ctx) != nil {
		return context.Cause(ctx) // what failed first, and not those that it ended
	}
	return err
}

// batch reads the letters one by one: each may be as large as a record is.
func (s *Store) batch(ctx context.Context, j Job, each func(Letter)) error {
	rows, err := s.db.QueryContext(ctx, `SELECT `+columns+` FROM dead_letter_job_items JOIN dead_letters ON id = letter
		WHERE job = $1 AND seq > $2 AND seq <= $3 AND job_id = job AND state = 'redriving' ORDER BY seq`, j.ID, j.sent, j.Claimed)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		l, err := scan(rows)
		if err != nil {
			return err
		}
		each(l)
	}
	return database.Classify(rows.Err())
}

// sendOne sends a letter. One that can never be sent has failed again, and holds nobody up.
func (s *Store) sendOne(ctx context.Context, l Letter) error {
	err := s.send.SendRecord(ctx, l.Record())
	if err == nil || fault.KindOf(err) != fault.Permanent {
		return err
	}
	message := clip(printable("it cannot be sent to its group: "+err.Error()), maxError)
	_, err = s.db.ExecContext(ctx, `UPDATE dead_letters SET state = 'failed_again', failures = failures + 1, failed_at = $1, updated_at = $1,
		error_type = $2, error_message = $3, cause = $4 WHERE id = $5 AND state = 'redriving'`, s.now().UTC(), Permanent, message, Cause(message), l.ID)
	return err
}

// sent writes that a batch is through, or that it is to be tried again. It does nothing when another has taken it over.
func (s *Store) sent(ctx context.Context, tx *database.Tx, taken Job, sendErr error) error {
	j, err := s.lockJob(ctx, tx, taken.ID)
	if err != nil || j.step != taken.step {
		return err
	}
	if sendErr != nil {
		j.busyUntil = s.now().Add(errorPause)
		if j.State != Stopping {
			j.Detail = clip("sending is tried again: "+printable(sendErr.Error()), maxError)
		}
		return s.save(ctx, tx, j)
	}
	if j.State != Stopping {
		j.Detail = ""
	}
	j.sent, j.busyUntil = j.Claimed, time.Unix(0, 0)
	if err := s.forget(ctx, tx, j); err != nil {
		return err
	}
	return s.save(ctx, tx, j)
}

// forget deletes the part of the selection that is done with.
func (s *Store) forget(ctx context.Context, tx *database.Tx, j Job) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM dead_letter_job_items WHERE job = $1 AND seq <= $2`, j.ID, j.sent)
	return database.Classify(err)
}
