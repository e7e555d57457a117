// Package forwarder is Watermill's own outbox: its forwarder component, over a table in PostgreSQL (watermill-sql v4) and the
// Kafka publisher of watermill-kafka v3, set for a benchmark against package pkg/outbox.
//
// It reads a batch in a transaction, sends the messages one after the other, each acknowledged by Kafka before the next, and
// stores how far it came in the same transaction; rows stay where they are. So the batch decides how often it asks
// PostgreSQL, and nothing makes it send two messages at a time.
//
// How it is set, in its favour: the default schema and offsets of PostgreSQL; 1,000 rows a batch instead of 100, so that the
// sort that each batch costs is paid seldom; it looks again after 1 ms when there was nothing, as its own tests do (the
// default of 1 s is what its latency would be); a pool of pgx, not database/sql. The publisher's client settings
// (sarama) are our own publisher's, so both promise the same: acknowledged by all in-sync replicas, idempotent, one open
// request. Keys are those of the messages. It has no logger.
package forwarder

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	stock "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/orderflow/orderflow/pkg/kafka"
)

const (
	batch = 1000
	poll  = time.Millisecond
	// table is what the outbox is called: the tables are watermill_outbox and watermill_offsets_outbox.
	table = "outbox"
	// keyed is the metadata with a message's key.
	keyed = "key"
)

// Forwarder is the outbox of a database, and what carries it to Kafka.
type Forwarder struct {
	pool      *pgxpool.Pool
	from      *sql.Subscriber
	to        *stock.Publisher
	forwarder *forwarder.Forwarder
}

// New makes the outbox's tables and connects. Nothing is carried before Run.
func New(ctx context.Context, databaseURL string, brokers []string) (_ *Forwarder, err error) {
	f := &Forwarder{}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if f.pool, err = pgxpool.New(ctx, databaseURL); err != nil {
		return nil, err
	}
	logger := watermill.NopLogger{}
	if f.from, err = sql.NewSubscriber(sql.BeginnerFromPgx(f.pool), sql.SubscriberConfig{
		SchemaAdapter: schema(), OffsetsAdapter: sql.DefaultPostgreSQLOffsetsAdapter{}, PollInterval: poll, InitializeSchema: true,
	}, logger); err != nil {
		return nil, err
	}
	if err := f.from.SubscribeInitialize(table); err != nil {
		return nil, err
	}
	if f.to, err = stock.NewPublisher(stock.PublisherConfig{
		Brokers: brokers, OverwriteSaramaConfig: kafka.Config{Brokers: brokers, ClientID: "watermill"}.Sarama(),
		Marshaler: stock.NewWithPartitioningMarshaler(func(_ string, m *message.Message) (string, error) { return m.Metadata.Get(keyed), nil }),
	}, logger); err != nil {
		return nil, err
	}
	f.forwarder, err = forwarder.NewForwarder(f.from, f.to, logger, forwarder.Config{ForwarderTopic: table})
	return f, err
}

func schema() sql.SchemaAdapter { return sql.DefaultPostgreSQLSchema{SubscribeBatchSize: batch} }

// Publish puts a message into the outbox, in a transaction of its own.
func (f *Forwarder) Publish(ctx context.Context, topic, key string, payload []byte) error {
	return pgx.BeginFunc(ctx, f.pool, func(tx pgx.Tx) error {
		publisher, err := sql.NewPublisher(sql.TxFromPgx(tx), sql.PublisherConfig{SchemaAdapter: schema()}, watermill.NopLogger{})
		if err != nil {
			return err
		}
		m := message.NewMessageWithContext(ctx, watermill.NewUUID(), payload)
		m.Metadata.Set(keyed, key)
		return forwarder.NewPublisher(publisher, forwarder.PublisherConfig{ForwarderTopic: table}).Publish(topic, m)
	})
}

// Run carries until ctx ends.
func (f *Forwarder) Run(ctx context.Context) error { return f.forwarder.Run(ctx) }

// Close disconnects, after Run.
func (f *Forwarder) Close() error {
	var errs []error
	if f.from != nil {
		errs = append(errs, f.from.Close())
	}
	if f.to != nil {
		errs = append(errs, f.to.Close())
	}
	if f.pool != nil {
		f.pool.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the forwarder: %w", err)
	}
	return nil
}
