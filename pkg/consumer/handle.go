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
	call, ok := c.handlers[address{topic, e.Type}]
	if !ok {
		return fault.Permanentf("no handler for %q on %s", e.Type, topic)
	}
	if err := c.deps.Validate(e.Type, e.Data); err != nil {
		return asUndecodable(err)
	}
	ctx := event.WithCause(msg.Context(), event.Cause{ID: e.ID, CorrelationID: e.CorrelationID})
	effect, err := call(ctx, e, mark)
	if err != nil {
		return err
	}
	return c.transact(ctx, e, mark, letter, effect)
}

// transact is the one transaction function: inbox mark, effect and outbox rows commit together, or none does
// (invariants 1 and 5). Only effectively-once has an inbox. A nil effect is that of a message that has been handled.
func (c *Consumer) transact(ctx context.Context, e event.Event, mark, letter string, effect HandlerFunc) error {
	duplicate := false
	err := c.deps.Outbox.InTx(ctx, func(ctx context.Context, tx *outbox.Tx) error {
		if c.deps.Guarantee == kafka.EffectivelyOnce {
			fresh, err := inbox.Mark(ctx, tx.Tx, c.deps.Group, c.deps.Now(), mark)
			if err != nil {
				return err
			}
			duplicate = !fresh[mark]
		}
		if !duplicate && effect != nil {
			if err := effect(ctx, tx, e); err != nil {
				return err
			}
		}
		if letter != "" {
			return c.deps.DeadLetters.MarkRedriven(ctx, tx.Tx, letter)
		}
		return nil
	})
	if err == nil && duplicate {
		c.metrics.duplicates.Inc()
	}
	return err
}

// seen tells whether the message has been handled, without a lock: it saves a call to the outside, and the inbox mark
// in the transaction is what decides. Without an inbox no message has been handled.
func (c *Consumer) seen(ctx context.Context, mark string) (bool, error) {
	if c.deps.Guarantee != kafka.EffectivelyOnce {
		return false, nil
	}
	return inbox.Seen(ctx, c.deps.DB, c.deps.Group, mark)
}

func decode[T event.Body](e event.Event) (T, error) {
	var body T
	if err := json.Unmarshal(e.Data, &body); err != nil {
		return body, asUndecodable(fmt.Errorf("decode %s: %w", e.Type, err))
	}
	return body, nil
}
