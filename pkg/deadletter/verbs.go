package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/orderflow/orderflow/pkg/database"
)

// By is who asks for a verb, and why.
type By struct{ Actor, Reason string }

// Redrive hands the letter back to its group. A letter that is on its way or has been handled is returned as it is;
// a discarded one is ErrState.
func (s *Store) Redrive(ctx context.Context, id string, by By) (Letter, error) {
	send := false
	l, err := s.change(ctx, id, func(ctx context.Context, tx *database.Tx, l Letter) error {
		switch {
		case l.State == Discarded:
			return fmt.Errorf("%w: %s is discarded", ErrState, id)
		case l.Omitted != "" && l.State != Redriven:
			return fmt.Errorf("%w: %s was too large to be kept whole (omitted: %s)", ErrState, id, l.Omitted)
		case l.State == Waiting, l.State == FailedAgain, l.State == Redriving && s.now().Sub(l.UpdatedAt) > stuckAfter:
			send = true
			return s.redriving(ctx, tx, l, by)
		default:
			return nil
		}
	})
	if err != nil || !send {
		return l, err
	}
	if err := s.send.SendRecord(ctx, l.Record()); err != nil {
		// The record may be in the topic all the same; then its handler, or a second redrive and the inbox, settle it.
		back := s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *database.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE dead_letters SET state = CASE WHEN failures > 1 THEN 'failed_again' ELSE 'waiting' END
				WHERE id = $1 AND state = 'redriving'`, id)
			return err
		})
		return l, fmt.Errorf("redrive %s: %w", id, errors.Join(err, back))
	}
	return l, nil
}

func (s *Store) redriving(ctx context.Context, tx *database.Tx, l Letter, by By) error {
	_, err := tx.ExecContext(ctx, `UPDATE dead_letters SET state = 'redriving', updated_at = $1, actor = $2, reason = $3
		WHERE id = $4`, s.now().UTC(), by.Actor, by.Reason, l.ID)
	if err != nil {
		return database.Classify(err)
	}
	return s.auditLetter(ctx, tx, l, Entry{By: by, Verb: "redrive"})
}

// Discard gives the letter up for good. A letter that is discarded already is returned as it is; one that is on its
// way or has been handled is ErrState.
func (s *Store) Discard(ctx context.Context, id string, by By) (Letter, error) {
	return s.change(ctx, id, func(ctx context.Context, tx *database.Tx, l Letter) error {
		switch l.State {
		case Redriving, Redriven:
			return fmt.Errorf("%w: %s is %s", ErrState, id, l.State)
		case Discarded:
			return nil
		}
		if _, err := s.settle(ctx, tx, Discarded, by, "", `id = $6`, id); err != nil {
			return err
		}
		return s.auditLetter(ctx, tx, l, Entry{By: by, Verb: "discard"})
	})
}

// Edit puts value in the place of the letter's body. The bytes that were there are kept in the audit trail. A letter
// that has this body is returned as it is; one that does not wait for an operator is ErrState.
func (s *Store) Edit(ctx context.Context, id string, value []byte, by By) (Letter, error) {
	return s.change(ctx, id, func(ctx context.Context, tx *database.Tx, l Letter) error {
		switch {
		case l.State != Waiting && l.State != FailedAgain:
			return fmt.Errorf("%w: %s is %s", ErrState, id, l.State)
		case l.Omitted != "":
			return fmt.Errorf("%w: %s was too large to be kept whole (omitted: %s)", ErrState, id, l.Omitted)
		case bytes.Equal(l.Value, value):
			return nil
		}
		_, err := tx.ExecContext(ctx, `UPDATE dead_letters SET record_value = $1, edits = edits + 1, updated_at = $2, actor = $3, reason = $4
			WHERE id = $5`, value, s.now().UTC(), by.Actor, by.Reason, id)
		if err != nil {
			return database.Classify(err)
		}
		detail := fmt.Sprintf("%d bytes in the place of %d", len(value), len(l.Value))
		return s.auditLetter(ctx, tx, l, Entry{By: by, Verb: "edit", Detail: detail, Before: l.Value})
	})
}

// change gives one letter, under its row's lock, to do, and returns it as it is then.
func (s *Store) change(ctx context.Context, id string, do func(ctx context.Context, tx *database.Tx, l Letter) error) (Letter, error) {
	var l Letter
	err := s.db.InTx(ctx, func(ctx context.Context, tx *database.Tx) (err error) {
		l, err = found(scan(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM dead_letters WHERE id = $1`+tx.ForUpdate(), id)))
		if err != nil {
			return err
		}
		if err := do(ctx, tx, l); err != nil {
			return err
		}
		l, err = found(scan(tx.QueryRowContext(ctx, `SELECT `+columns+` FROM dead_letters WHERE id = $1`, id)))
		return err
	})
	return l, err
}
