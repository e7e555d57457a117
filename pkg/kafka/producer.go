package kafka

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Bounds of a producer.
const (
	// ackTimeout is how long a leader waits for the replicas. It is less than Config.Sarama's time to read an answer, so
	// that it is the leader who says so.
	ackTimeout = 8 * time.Second
	// maxRequest is the size of a request, in bytes, above which no further partition joins it.
	maxRequest = 16 << 20
	// maxBackoff is the longest pause between two attempts.
	maxBackoff = time.Second
)

// producer sends batches. What is sent to one broker at one time is one request; what comes while it is under way is the
// next one. So a partition has one batch under way at most, and no timer is needed to fill one.
//
// A partition is always in one place: idle; in the line of its leader; or, after a failure, recovering, which is looking
// for the leader and coming back to a line. What waits for it stays in its queue meanwhile.
type producer struct {
	client     sarama.Client
	logger     *slog.Logger
	acks       sarama.RequiredAcks
	idempotent bool
	// retries are the attempts after the first, backoff the pause before the first of them. It doubles.
	retries int
	backoff time.Duration
	// limit is the size of the largest record, and of a batch, in bytes.
	limit int
	codec sarama.CompressionCodec
	// keys places records with a key.
	keys sarama.Partitioner

	mu      sync.Mutex
	targets map[string]map[int32]*target
	leaders map[int32]*leader
	// current is the producer that partitions take who have none.
	current identity

	// work are the goroutines. stop makes them give up.
	work sync.WaitGroup
	stop chan struct{}
}

// leader is the partitions that have something to send to one broker.
type leader struct {
	broker int32
	ready  []*target
	// busy says that a goroutine serves the line.
	busy bool
}

func newProducer(client sarama.Client, settings *sarama.Config, logger *slog.Logger) *producer {
	return &producer{
		client: client, logger: logger, acks: settings.Producer.RequiredAcks, idempotent: settings.Producer.Idempotent,
		retries: settings.Producer.Retry.Max, backoff: settings.Producer.Retry.Backoff,
		limit: settings.Producer.MaxMessageBytes, codec: settings.Producer.Compression,
		keys:    settings.Producer.Partitioner(""),
		targets: map[string]map[int32]*target{}, leaders: map[int32]*leader{}, current: nobody,
		stop: make(chan struct{}),
	}
}

// send waits until all records are decided, or for ctx.
func (p *producer) send(ctx context.Context, c *call) []error {
	p.work.Go(func() { p.begin(c) })
	select {
	case <-c.done:
		return c.results()
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		return c.abandon(ctx)
	}
}

// begin queues the records of c, and serves the lines that nobody else does.
func (p *producer) begin(c *call) {
	places, errs := p.place(c)
	p.mu.Lock()
	var idle []*target
	for i := range c.entries {
		e := &c.entries[i]
		switch {
		case e.decided:
			continue
		case errs[i] != nil:
			e.decide(errs[i])
			continue
		case e.size > p.limit:
			e.fail(fault.Permanentf("send to %s: the record has %d bytes, which is larger than %d", e.topic, e.size, p.limit), c.behind(i))
			continue
		}
		e.target = p.target(e.topic, places[i])
		e.target.queue = append(e.target.queue, e)
		if !e.target.busy {
			e.target.busy = true
			idle = append(idle, e.target)
		}
	}
	p.mu.Unlock()
	p.route(idle)
}

func (p *producer) target(topic string, number int32) *target {
	of := p.targets[topic]
	if of == nil {
		of = map[int32]*target{}
		p.targets[topic] = of
	}
	if of[number] == nil {
		of[number] = &target{topic: topic, number: number, most: math.MaxInt32, producer: nobody}
	}
	return of[number]
}

// route puts partitions in the lines of their leaders, and serves those that nobody does.
func (p *producer) route(targets []*target) {
	brokers := make([]*sarama.Broker, len(targets))
	errs := make([]error, len(targets))
	for i, target := range targets {
		brokers[i], errs[i] = p.client.Leader(target.topic, target.number)
	}
	var idle []*leader
	var failed []*target
	p.mu.Lock()
	for i, target := range targets {
		if errs[i] != nil {
			if target.next(p.limit, p.codec) == nil {
				target.busy = false
			} else {
				p.failed(target, errs[i])
				failed = append(failed, target)
			}
			continue
		}
		l := p.leaders[brokers[i].ID()]
		if l == nil {
			l = &leader{broker: brokers[i].ID()}
			p.leaders[l.broker] = l
		}
		l.ready = append(l.ready, target)
		if !l.busy {
			l.busy = true
			idle = append(idle, l)
		}
	}
	p.mu.Unlock()
	p.recoverLater(failed)
	for i, l := range idle {
		if i == len(idle)-1 {
			p.serve(l)
		} else {
			p.work.Go(func() { p.serve(l) })
		}
	}
}

// serve sends what stands in a line until nothing does.
func (p *producer) serve(l *leader) {
	for {
		targets := p.take(l)
		if len(targets) == 0 {
			return
		}
		response, err := p.produce(l.broker, targets)
		p.recoverLater(p.settle(l, targets, response, err))
	}
}

// take returns the partitions of the next request, each with its batch.
func (p *producer) take(l *leader) []*target {
	p.mu.Lock()
	defer p.mu.Unlock()
	var targets []*target
	size := 0
	for i, target := range l.ready {
		b := target.next(p.limit, p.codec)
		if b == nil {
			target.busy = false
			continue
		}
		if size += b.size; size > maxRequest && len(targets) > 0 {
			l.ready = l.ready[i:]
			return targets
		}
		targets = append(targets, target)
	}
	l.ready, l.busy = nil, len(targets) > 0
	return targets
}
