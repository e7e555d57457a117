package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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
	// known are topics that were there when they were last asked for.
	known map[string]bool
	// sends are the calls under way, also those whose caller has stopped waiting.
	sends sync.WaitGroup
}

// connection is a producer that is opened when it is first wanted.
type connection struct {
	// connecting is held while connecting, which takes its time; the publisher's mu never is.
	connecting sync.Mutex
	client     sarama.Client
	producer   sarama.SyncProducer
}

// NewPublisher returns a publisher that connects at its first send, so that a service can start before its broker.
func NewPublisher(cfg PublisherConfig, logger *slog.Logger) (*Publisher, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka publisher: %w", err)
	}
	return &Publisher{cfg: cfg, logger: logger, known: map[string]bool{}}, nil
}

// Guarantee is that of the publisher's configuration.
func (p *Publisher) Guarantee() Guarantee { return p.cfg.Guarantee }

// Publish implements Watermill's Publisher. The messages go as one batch under the first one's context; an error says
// that at least one was not sent, and others may have been.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	records := make([]*sarama.ProducerMessage, len(msgs))
	for i, msg := range msgs {
		record, err := Marshaler{}.Marshal(topic, msg)
		if err != nil {
			return fault.AsPermanent(err)
		}
		records[i] = record
	}
	return errors.Join(p.send(msgs[0].Context(), &p.messages, records)...)
}

// SendBatch sends events as one batch. It returns nil when all are sent, and otherwise an error (or nil) for each
// event: Permanent for one that can never be sent, Unavailable when the cluster did not answer, else Transient. An
// unknown topic is Transient, and delays nobody else. Where the error is not Permanent the event may be in the log
// nevertheless.
func (p *Publisher) SendBatch(ctx context.Context, batch []event.Addressed) []error {
	records := make([]*sarama.ProducerMessage, len(batch))
	for i, a := range batch {
		records[i] = Record{
			Topic: a.Topic, Key: []byte(a.Event.Key), Value: a.Event.Data, Headers: a.Event.Headers(),
		}.message()
	}
	return p.send(ctx, &p.messages, records)
}

// SendRecord sends r's key, value and headers as they are to r.Topic. Errors are those of SendBatch. It keeps no order
// with what SendBatch and Publish send.
func (p *Publisher) SendRecord(ctx context.Context, r Record) error {
	return errors.Join(p.send(ctx, &p.records, []*sarama.ProducerMessage{r.message()})...)
}

// send waits for all records or for ctx. sarama cannot be told to give up a record, so after ctx it goes on in the
// background until its own retries end, and the caller hears that the outcome is unknown. A caller that sends such a
// record again keeps order: sarama's queue of a partition is first in, first out.
func (p *Publisher) send(ctx context.Context, c *connection, records []*sarama.ProducerMessage) []error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return all(len(records), fault.Unavailablef("kafka publisher: closed"))
	}
	p.sends.Add(1)
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	result := make(chan []error, 1)
	go func() {
		defer p.sends.Done()
		result <- p.sendAll(c, records)
	}()
	select {
	case errs := <-result:
		return errs
	case <-ctx.Done():
		return all(len(records), fault.Unavailablef("send: outcome unknown: %w", ctx.Err()))
	}
}

func (p *Publisher) sendAll(c *connection, records []*sarama.ProducerMessage) []error {
	client, producer, err := p.connect(c)
	if err != nil {
		return all(len(records), err)
	}
	missing := p.missing(client, records)
	sendable, index := make([]*sarama.ProducerMessage, 0, len(records)), make(map[*sarama.ProducerMessage]int, len(records))
	var errs []error
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(records))
		}
		errs[i] = err
	}
	for i, r := range records {
		if missing[r.Topic] {
			fail(i, classify("send to "+r.Topic, sarama.ErrUnknownTopicOrPartition))
			continue
		}
		sendable, index[r] = append(sendable, r), i
	}
	if len(sendable) == 0 {
		return errs
	}
	err = producer.SendMessages(sendable)
	var failed sarama.ProducerErrors
	if errors.As(err, &failed) {
		for _, f := range failed {
			if errors.Is(f.Err, sarama.ErrUnknownTopicOrPartition) {
				p.forget(f.Msg.Topic)
			}
			fail(index[f.Msg], classify("send to "+f.Msg.Topic, f.Err))
		}
	} else if err != nil {
		return all(len(records), classify("send", err))
	}
	return errs
}

// connect opens the client and the producer once.
func (p *Publisher) connect(c *connection) (sarama.Client, sarama.SyncProducer, error) {
	c.connecting.Lock()
	defer c.connecting.Unlock()
	if c.producer != nil {
		return c.client, c.producer, nil
	}
	settings := p.cfg.Sarama()
	p.cfg.Guarantee.producer(settings)
	if c == &p.records {
		settings.Producer.MaxMessageBytes = maxRecord
	}
	client, err := sarama.NewClient(p.cfg.Brokers, settings)
	if err != nil {
		return nil, nil, classify("connect to Kafka", err)
	}
	producer, err := sarama.NewSyncProducerFromClient(client)
	if err != nil {
		return nil, nil, errors.Join(classify("open the Kafka producer", err), client.Close())
	}
	c.client, c.producer = client, producer
	return client, producer, nil
}

// missing returns those topics of records that do not exist. Left to sarama, a record for an unknown topic is tried
// for the whole of Metadata.Timeout, and its batch waits with it; one question to the cluster answers at once, and is
// asked once a topic.
func (p *Publisher) missing(client sarama.Client, records []*sarama.ProducerMessage) map[string]bool {
	ask := p.unknown(records)
	if len(ask) == 0 {
		return nil
	}
	broker := client.LeastLoadedBroker()
	if broker == nil {
		return nil // sarama will find out
	}
	request := sarama.NewMetadataRequest(client.Config().Version, ask)
	request.AllowAutoTopicCreation = false
	response, err := broker.GetMetadata(request)
	if err != nil {
		return nil
	}
	missing := map[string]bool{}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, topic := range response.Topics {
		if errors.Is(topic.Err, sarama.ErrUnknownTopicOrPartition) {
			missing[topic.Name] = true
		} else if errors.Is(topic.Err, sarama.ErrNoError) {
			p.known[topic.Name] = true
		}
	}
	return missing
}

func (p *Publisher) unknown(records []*sarama.ProducerMessage) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var topics []string
	asked := map[string]bool{}
	for _, r := range records {
		if !p.known[r.Topic] && !asked[r.Topic] {
			asked[r.Topic] = true
			topics = append(topics, r.Topic)
		}
	}
	return topics
}

func (p *Publisher) forget(topic string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.known, topic)
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
		p.logger.Warn("kafka publisher closed while sends were still under way; their outcome is unknown")
		return fault.Unavailablef("close the Kafka producer: sends under way did not end within %s", closeTimeout)
	}
}

func (c *connection) close() error {
	if c.producer == nil {
		return nil
	}
	return errors.Join(c.producer.Close(), c.client.Close())
}

func all(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}
