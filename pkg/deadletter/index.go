package deadletter

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	wkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/observe"
)

// indexRetry is the wait before what failed is tried again.
const indexRetry = time.Second

// Bounds of a transaction of rebuild.
const (
	rebuildLetters = 500
	rebuildBytes   = 4 << 20
)

// Index reads the dead-letter topic of group into s until ctx ends.
//
// It begins with what the table lacks of the topic, going by the table's own word (rebuild): a table that was lost, or
// came back from a backup, is made up for whatever the group has committed. Then it is a consumer group of its own,
// IndexGroup, on Watermill's stock subscriber: one letter at a time is right here, and the topic's order is
// the order of the failures. A letter that cannot be written is tried again for ever and holds up those behind it; so
// is everything else, since a broker that is away comes back.
// instanceID is the stable name of this replica, or empty: with one, a process that was killed is followed at once.
func Index(ctx context.Context, cfg kafka.Config, group, instanceID string, s *Store, logger *slog.Logger) {
	for {
		n, err := s.rebuild(ctx, cfg, group)
		if n > 0 {
			logger.InfoContext(ctx, "dead letters were read that the index did not know of", "group", group, "records", n)
		}
		if err == nil {
			err = follow(ctx, cfg, group, instanceID, s, logger)
		}
		if ctx.Err() != nil {
			return
		}
		logger.WarnContext(ctx, "the dead-letter index is not complete yet", "group", group, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(indexRetry):
		}
	}
}

// follow returns when ctx ends, or when it cannot go on.
func follow(ctx context.Context, cfg kafka.Config, group, instanceID string, s *Store, logger *slog.Logger) error {
	settings := cfg.Sarama()
	settings.Consumer.Group.InstanceId = instanceID
	sub, err := wkafka.NewSubscriber(wkafka.SubscriberConfig{
		Brokers: cfg.Brokers, Unmarshaler: kafka.Marshaler{}, OverwriteSaramaConfig: settings,
		ConsumerGroup: IndexGroup(group), NackResendSleep: indexRetry,
	}, observe.WatermillLogger(logger))
	if err != nil {
		return err
	}
	messages, err := sub.Subscribe(context.WithoutCancel(ctx), Topic(group))
	if err != nil {
		return errors.Join(err, sub.Close())
	}
	leave := func() {
		if err := sub.Close(); err != nil {
			logger.WarnContext(ctx, "dead-letter index did not close cleanly", "error", err)
		}
	}
	stop := context.AfterFunc(ctx, leave)
	defer func() {
		if stop() {
			leave()
		}
	}()
	for msg := range messages {
		if err := index(ctx, group, s, msg); err != nil {
			logger.WarnContext(ctx, "dead letter is not in the index yet", "group", group, "error", err)
			msg.Nack()
			continue
		}
		msg.Ack()
	}
	return errors.New("the subscription ended by itself")
}

func index(ctx context.Context, group string, s *Store, msg *message.Message) error {
	r, ok := kafka.RecordOf(msg)
	if !ok {
		return fmt.Errorf("message %s does not say which record it was", msg.UUID)
	}
	return s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *database.Tx) error {
		if err := s.Record(ctx, tx, FromRecord(r, group)); err != nil {
			return err
		}
		// Only if the table has all before it: another replica may still be rebuilding.
		_, err := tx.ExecContext(ctx, `UPDATE dead_letter_index SET next_offset = next_offset + 1
			WHERE topic = $1 AND topic_part = $2 AND next_offset = $3`, r.Topic, r.Partition, r.Offset)
		return database.Classify(err)
	})
}

// rebuild reads what stands in the topic and the table does not know of, and returns how many records that were. Without
// a note of the table's own that is the whole topic.
func (s *Store) rebuild(ctx context.Context, cfg kafka.Config, group string) (n int, err error) {
	admin, err := kafka.NewAdmin(cfg)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, admin.Close()) }()
	topic := Topic(group)
	ranges, err := admin.Ranges(ctx, topic)
	if err != nil {
		return 0, err
	}
	known, err := s.known(ctx, topic)
	if err != nil {
		return 0, err
	}
	for partition, r := range ranges {
		if next, noted := known[partition]; noted && next >= r.Start && next <= r.End {
			r.Start = next
		} else if err := s.note(ctx, topic, partition, r.Start); err != nil { // unknown, or the topic is another one
			return n, err
		}
		read, err := s.catchUp(ctx, cfg, group, partition, r)
		n += read
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Store) known(ctx context.Context, topic string) (map[int32]int64, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT topic_part, next_offset FROM dead_letter_index WHERE topic = $1`, topic)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	known := map[int32]int64{}
	for rows.Next() {
		var partition int32
		var next int64
		if err := rows.Scan(&partition, &next); err != nil {
			return nil, err
		}
		known[partition] = next
	}
	return known, database.Classify(rows.Err())
}

func (s *Store) note(ctx context.Context, topic string, partition int32, next int64) error {
	_, err := s.db.ExecContext(ctx, `INSERT INTO dead_letter_index (topic, topic_part, next_offset) VALUES ($1, $2, $3)
		ON CONFLICT (topic, topic_part) DO UPDATE SET next_offset = excluded.next_offset`, topic, partition, next)
	return err
}

// catchUp writes a stretch of the topic, whose beginning the table knows to be next, many letters in a transaction.
func (s *Store) catchUp(ctx context.Context, cfg kafka.Config, group string, partition int32, r kafka.Range) (n int, err error) {
	var batch []kafka.Record
	size := 0
	write := func() error {
		if len(batch) == 0 {
			return nil
		}
		next := batch[len(batch)-1].Offset + 1
		err := s.db.InTx(context.WithoutCancel(ctx), func(ctx context.Context, tx *database.Tx) error {
			for _, r := range batch {
				if err := s.Record(ctx, tx, FromRecord(r, group)); err != nil {
					return err
				}
			}
			_, err := tx.ExecContext(ctx, `UPDATE dead_letter_index SET next_offset = $1
				WHERE topic = $2 AND topic_part = $3 AND next_offset < $1`, next, Topic(group), partition)
			return database.Classify(err)
		})
		if err == nil {
			n += len(batch)
			batch, size = batch[:0], 0
		}
		return err
	}
	reading, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	err = kafka.Read(reading, cfg, Topic(group), map[int32]kafka.Range{partition: r}, func(r kafka.Record) {
		if reading.Err() != nil {
			return
		}
		batch = append(batch, r)
		if size += len(r.Value); len(batch) >= rebuildLetters || size >= rebuildBytes {
			if err := write(); err != nil {
				stop(err)
			}
		}
	})
	if cause := context.Cause(reading); cause != nil {
		return n, cause
	}
	return n, errors.Join(err, write())
}
