package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/failpoint"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// undecodable marks a record that is no message: trying again or waiting cannot help.
type undecodable struct{ error }

func (u undecodable) Unwrap() error { return u.error }

func asUndecodable(err error) error { return fault.AsPermanent(undecodable{err}) }

// handle takes one delivery as far as its commit.
func (c *Consumer) handle(msg *message.Message) error {
	record, ok := kafka.RecordOf(msg)
	if !ok {
		return asUndecodable(errors.New("the message does not say which record it was"))
	}
	e, err := event.FromHeaders(record.Headers, record.Value)
	if err != nil {
		return asUndecodable(err)
	}
	if string(record.Key) != e.Key {
		// Order is kept by the record's key: with another one the message may already have overtaken its elders.
		return asUndecodable(fmt.Errorf("the record's key is %q, header %s is %q", record.Key, event.HeaderKey, e.Key))
	}
	for _, text := range []string{e.ID, e.Key, record.Headers[deadletter.HeaderReplay]} {
		if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
			// No database's text: it would be refused there in every attempt, or kept as something else.
			return asUndecodable(fmt.Errorf("headers %s, %s and %s must be UTF-8 without NUL", event.HeaderID, event.HeaderKey, deadletter.HeaderReplay))
		}
	}
	topic, letter, mark := record.Topic, "", e.ID
	if topic == deadletter.RedriveTopic(c.deps.Group) {
		if topic = record.Headers[deadletter.HeaderTopic]; topic == "" {
			return asUndecodable(fmt.Errorf("header %s is missing on %s", deadletter.HeaderTopic, record.Topic))
		}
		letter = deadletter.ID(record.Headers)
		if record.Headers[deadletter.HeaderReplayInbox] == deadletter.ReplayAgain {
			// Once for each replay, however often the replay's copy comes.
			mark += "@" + record.Headers[deadletter.HeaderReplay]
		}
	}
	route, ok := c.handlers[address{topic, e.Type}]
	if !ok {
		return fault.Permanentf("no handler for %q on %s", e.Type, topic)
	}
	if err := c.deps.Validate(e.Type, e.Data); err != nil {
		return asUndecodable(err)
	}
	ctx := event.WithCause(msg.Context(), event.Cause{ID: e.ID, CorrelationID: e.CorrelationID})
	effect, err := route.call(ctx, e, mark)
	if err != nil {
		return err
	}
	return c.commit(&member{ctx: ctx, event: e, mark: mark, letter: letter, effect: effect})
}

// transact is the one transaction function: inbox marks, effects and outbox rows commit together, or none does
// (invariants 1 and 5). Only effectively-once has an inbox. ahead has Prepare's function called first. turn applies one
// message; its error undoes everything. One that turn has excused, by its failed, is left out with its mark.
func (c *Consumer) transact(ctx context.Context, batch []*member, ahead bool, turn func(ctx context.Context, tx *outbox.Tx, m *member) error) error {
	duplicates, excused := 0, 0
	err := c.deps.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		fresh, err := c.markAll(ctx, tx, batch)
		if err != nil {
			return err
		}
		if ahead && c.prepare != nil {
			if err := c.prepare(ctx, tx, events(batch)); err != nil {
				return err
			}
		}
		if err := tx.Wait(ctx); err != nil { // the marks, and what is read ahead, in one round trip
			return err
		}
		var undone []string
		for _, m := range batch {
			m.duplicate = c.deps.Guarantee == kafka.EffectivelyOnce && !fresh[m.mark]
			m.failed = nil
			if err := turn(ctx, tx, m); err != nil {
				return err
			}
			switch {
			case m.failed != nil:
				excused++
				if fresh[m.mark] {
					undone = append(undone, m.mark)
				}
			case m.duplicate:
				duplicates++
			}
		}
		return failpoint.After(inbox.Unmark(ctx, tx.Tx, c.deps.Group, undone...), failpoint.ConsumerBeforeCommit)
	})
	err = failpoint.After(err, failpoint.ConsumerAfterCommit)
	if err == nil {
		c.metrics.duplicates.Add(float64(duplicates))
		if n := len(batch) - excused; n > 0 {
			c.metrics.batchSize.Observe(float64(n))
		}
	}
	return err
}

// markAll puts the messages into the inbox in one statement and returns which were not there, once tx.Wait has returned.
func (c *Consumer) markAll(ctx context.Context, tx *outbox.Tx, batch []*member) (map[string]bool, error) {
	if c.deps.Guarantee != kafka.EffectivelyOnce {
		return nil, nil
	}
	marks := make([]string, len(batch))
	for i, m := range batch {
		marks[i] = m.mark
	}
	return inbox.MarkLater(ctx, tx.Tx, c.deps.Group, c.deps.Now(), marks...)
}

// apply is what one message does in the transaction. A nil effect is that of a message that has been handled.
func (c *Consumer) apply(ctx context.Context, tx *outbox.Tx, m *member) error {
	if !m.duplicate && m.effect != nil {
		if err := m.effect(ctx, tx, m.event); err != nil {
			return err
		}
	}
	if m.letter != "" {
		return c.deps.DeadLetters.MarkRedriven(ctx, tx.Tx, m.letter)
	}
	return nil
}

// seen tells whether the message has been handled, without a lock: it saves a call to the outside, and the inbox mark
// in the transaction is what decides. Messages that come at the same time share a statement. Without an inbox no message
// has been handled.
func (c *Consumer) seen(ctx context.Context, mark string) (bool, error) {
	if c.deps.Guarantee != kafka.EffectivelyOnce {
		return false, nil
	}
	return c.known.Do(ctx, mark)
}

func decode[T event.Body](e event.Event) (T, error) {
	var body T
	if err := json.Unmarshal(e.Data, &body); err != nil {
		return body, asUndecodable(fmt.Errorf("decode %s: %w", e.Type, err))
	}
	return body, nil
}
