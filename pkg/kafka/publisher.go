package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
)

// Bounds on waiting for the cluster, whatever the caller's context says.
const (
	sendTimeout  = 20 * time.Second
	closeTimeout = 5 * time.Second
)

// maxRecord is the largest record, or batch of them, that SendRecord sends: more than sarama's 1 MiB, because a record
// that a topic took must fit into the dead-letter topic with the headers that are added to it. Batches of messages stay
// within sarama's limit, which is their topics' too.
const maxRecord = 1152 << 10

// PublisherConfig is how to reach the cluster and what to promise.
type PublisherConfig struct {
	Config
	// Guarantee is what becomes of a record when the cluster does not answer. EffectivelyOnce and AtLeastOnce wait for
	// all in-sync replicas and try again for some seconds; AtMostOnce waits for the leader and sends once.
	Guarantee Guarantee
}

// Validate names everything that is wrong with c.
func (c PublisherConfig) Validate() error {
	return errors.Join(c.Config.Validate(), c.Guarantee.Validate())
}

// Publisher sends records and waits for the cluster to have them, as its guarantee says. It is safe for concurrent use.
type Publisher struct {
	cfg    PublisherConfig
	logger *slog.Logger

	messages, records connection

	mu     sync.Mutex
	closed bool
	// sends are the calls under way.
	sends sync.WaitGroup
}

// connection is a producer with a client of its own, that is opened when it is first wanted.
type connection struct {
	// connecting is held while connecting, which takes its time; the publisher's mu never is.
	connecting sync.Mutex
	producer   atomic.Pointer[producer]
}

// NewPublisher returns a publisher that connects at its first send, so that a service can start before its broker.
func NewPublisher(cfg PublisherConfig, logger *slog.Logger) (*Publisher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka publisher: %w", err)
	}
	return &Publisher{cfg: cfg, logger: logger}, nil
}

// Guarantee is that of the publisher's configuration.
func (p *Publisher) Guarantee() Guarantee { return p.cfg.Guarantee }

// Publish implements Watermill's Publisher. The messages go as one batch under the first one's context; an error says
// that at least one was not sent, and others may have been.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	c := newCall(len(msgs))
	for i, msg := range msgs {
		r := outgoing(topic, msg)
		c.set(i, r.Topic, r.Key, r.Value, r.headers())
	}
	return errors.Join(p.send(msgs[0].Context(), &p.messages, c)...)
}

// SendBatch sends events as one batch, at most one request to each broker at a time. It returns nil when all are sent, and
// otherwise an error (or nil) for each event: Permanent for one that can never be sent, Unavailable when the cluster did not
// answer, else Transient. An unknown topic is Transient, and delays nobody else. Where the error is not Permanent the event
// may be in the log nevertheless. When an event is not sent, none behind it with its topic and key is: a batch may have many
// of one key. It may go on after ctx has ended, so the events' data must not be changed afterwards.
func (p *Publisher) SendBatch(ctx context.Context, batch []event.Addressed) []error {
	return p.send(ctx, &p.messages, callOf(batch))
}

// SendRecord sends r's key, value and headers as they are to r.Topic. Errors are those of SendBatch. It keeps no order
// with what SendBatch and Publish send.
func (p *Publisher) SendRecord(ctx context.Context, r Record) error {
	c := newCall(1)
	c.set(0, r.Topic, r.Key, r.Value, r.headers())
	return errors.Join(p.send(ctx, &p.records, c)...)
}

// send waits for all records or for ctx. What is under way after ctx goes on in the background until it is decided or its
// retries end, and the caller hears that the outcome is unknown. A caller that sends such a record again keeps order: it
// waits behind.
func (p *Publisher) send(ctx context.Context, via *connection, c *call) []error {
	n := len(c.entries)
	if n == 0 {
		return nil
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return all(n, fault.Unavailablef("kafka publisher: closed"))
	}
	p.sends.Add(1)
	p.mu.Unlock()
	defer p.sends.Done()

	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	producer, err := p.connected(ctx, via)
	if err != nil {
		return all(n, err)
	}
	return producer.send(ctx, c)
}

// connected returns the connection's producer. Connecting goes on after ctx has ended, for the next one.
func (p *Publisher) connected(ctx context.Context, c *connection) (*producer, error) {
	if producer := c.producer.Load(); producer != nil {
		return producer, nil
	}
	connected := make(chan error, 1)
	p.sends.Go(func() { connected <- p.connect(c) })
	select {
	case err := <-connected:
		return c.producer.Load(), err
	case <-ctx.Done():
		return nil, fault.Unavailablef("connect to Kafka: %w", ctx.Err())
	}
}

// connect opens the client once.
func (p *Publisher) connect(c *connection) error {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.producer.Load() != nil {
		return nil
	}
	settings := p.cfg.Sarama()
	p.cfg.Guarantee.producer(settings)
	if c == &p.records {
		settings.Producer.MaxMessageBytes = maxRecord
	} else {
		settings.Producer.Compression = sarama.CompressionLZ4
	}
	promised := *settings
	// The rest is for sarama's client: it sends what it is told to, and asks once. The producer keeps order, and tries
	// again for each partition by itself.
	settings.Producer.Idempotent = false
	settings.Net.MaxOpenRequests = 5
	settings.Metadata.Retry.Max = 0
	// New partitions are seen after this time, or when something fails.
	settings.Metadata.RefreshFrequency = time.Minute
	for start := time.Now(); ; {
		client, err := sarama.NewClient(p.cfg.Brokers, settings)
		if err == nil {
			c.producer.Store(newProducer(client, &promised, p.logger))
			return nil
		}
		if time.Since(start) > settings.Metadata.Timeout {
			return classify("connect to Kafka", err)
		}
		<-time.After(settings.Metadata.Retry.Backoff)
	}
}

// Close waits for the sends under way, a few seconds at most, and disconnects.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()

	done := make(chan error, 1)
	go func() {
		p.sends.Wait()
		done <- errors.Join(p.messages.close(), p.records.close())
	}()
	select {
	case err := <-done:
		return classify("close the Kafka producer", err)
	case <-time.After(closeTimeout):
		p.messages.giveUp()
		p.records.giveUp()
		p.logger.Warn("kafka publisher closed while sends were still under way; their outcome is unknown")
		return fault.Unavailablef("close the Kafka producer: sends under way did not end within %s", closeTimeout)
	}
}

// close waits for what is under way.
func (c *connection) close() error {
	producer := c.producer.Load()
	if producer == nil {
		return nil
	}
	producer.work.Wait()
	return producer.client.Close()
}

// giveUp has what is under way end after the attempt that it is at.
func (c *connection) giveUp() {
	if producer := c.producer.Load(); producer != nil {
		close(producer.stop)
	}
}

func all(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
