package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/IBM/sarama"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Defaults and fixed settings of a Transformer.
const (
	defaultMaxRecords         = 500
	defaultMaxMessageBytes    = 1 << 20
	defaultTransactionTimeout = 10 * time.Second
	// transformPause is the wait before what failed is tried again.
	transformPause = time.Second

	// A transaction that follows closely on another waits for the cluster to finish that one: first a little.
	transactionRetries      = 20
	transactionBackoff      = 10 * time.Millisecond
	transactionBackoffLimit = 250 * time.Millisecond
)

// Transform makes records out of records. in are records of one partition in the log's order, all unseen by any
// transaction that committed. Of each record that it returns, Topic, Key, Value and Headers are sent. It may be called
// again with the same records, so what it does beside returning records is done at least once. It must return when
// ctx ends.
//
// A Permanent error ends Run; after any other, the same records come again. To leave a record out, return nothing for
// it; to put it aside, return it with the topic of a dead-letter queue.
type Transform func(ctx context.Context, in []Record) (out []Record, err error)

// TransformerConfig says what to transform and within which bounds. Zero means the default.
type TransformerConfig struct {
	Config
	// Group is the consumer group. The transactional ids are "<group>/<topic>/<partition>", one an input partition.
	Group string
	// Topics are the topics to read.
	Topics []string
	// MaxRecords is how many records one transaction takes at most. It takes what is there and waits for no more.
	// Default 500.
	MaxRecords int
	// MaxMessageBytes is the largest record, and batch of them, that is sent; the output's topics must take it. Default
	// 1 MiB.
	MaxMessageBytes int
	// InstanceID, when set, makes the process a static member, as in SubscriberConfig.
	InstanceID string
	// SessionTimeout is how long the cluster waits for a silent member, as in SubscriberConfig. Default 10 s.
	SessionTimeout time.Duration
	// TransactionTimeout bounds one transaction, which is sending and committing, not fn. The cluster aborts it then if
	// nobody else did: a process was killed in it and none took its partition. Until then readers of the output wait.
	// From 1 s to the cluster's transaction.max.timeout.ms, default 10 s.
	TransactionTimeout time.Duration
}

func (c *TransformerConfig) setDefaults() {
	if c.MaxRecords == 0 {
		c.MaxRecords = defaultMaxRecords
	}
	if c.MaxMessageBytes == 0 {
		c.MaxMessageBytes = defaultMaxMessageBytes
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = defaultSessionTimeout
	}
	if c.TransactionTimeout == 0 {
		c.TransactionTimeout = defaultTransactionTimeout
	}
}

// Validate names everything that is wrong with c.
func (c *TransformerConfig) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Group == "" {
		errs = append(errs, errors.New("group is empty"))
	}
	if len(c.Topics) == 0 || slices.Contains(c.Topics, "") {
		errs = append(errs, fmt.Errorf("topics are %q, must be one name or more, none of them empty", c.Topics))
	}
	if c.MaxRecords < 1 {
		errs = append(errs, fmt.Errorf("MaxRecords is %d, must be at least 1", c.MaxRecords))
	}
	if c.MaxMessageBytes < 1 {
		errs = append(errs, fmt.Errorf("MaxMessageBytes is %d, must be at least 1", c.MaxMessageBytes))
	}
	if c.SessionTimeout < 0 {
		errs = append(errs, errors.New("SessionTimeout must not be negative"))
	}
	if c.TransactionTimeout < time.Second {
		errs = append(errs, fmt.Errorf("TransactionTimeout is %s, must be at least 1s", c.TransactionTimeout))
	}
	return errors.Join(errs...)
}

// group are the settings of the group's member.
func (c *TransformerConfig) group() *sarama.Config {
	s := c.Sarama()
	groupSettings(s, c.InstanceID, c.SessionTimeout, c.TransactionTimeout)
	// Claims read ahead of their work and pause their partition when that is too far (readAhead), so sarama's channels are
	// always being read. Were they not, sarama would hold up all partitions of the broker for up to twice
	// MaxProcessingTime, and then subscribe to the slow one anew: no loss, but one slow partition would slow them all.
	s.Consumer.MaxProcessingTime = time.Second
	// A partition that was paused is fetched from again when the request under way returns: at most this much later.
	s.Consumer.MaxWaitTime = 100 * time.Millisecond
	// Offsets are committed by the transactions, and by nothing else.
	s.Consumer.Offsets.AutoCommit.Enable = false
	// Every rebalance ends every claim, so that a claim lives in one generation of the group and commits as its member:
	// with another generation the cluster would take the offsets of a partition that is not the process's any more.
	s.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
	return s
}

// producer are the settings of the producer of one input partition.
func (c *TransformerConfig) producer(transactionalID string) *sarama.Config {
	s := c.Sarama()
	s.Metadata.Retry.Max = 3
	s.Producer.MaxMessageBytes = c.MaxMessageBytes
	s.Producer.Transaction.ID = transactionalID
	s.Producer.Transaction.Timeout = c.TransactionTimeout
	s.Producer.Transaction.Retry.Max = transactionRetries
	s.Producer.Transaction.Retry.BackoffFunc = func(retries, _ int) time.Duration {
		return min(transactionBackoff<<min(retries, 10), transactionBackoffLimit)
	}
	return s
}

// Transformer consumes, transforms and produces: what a batch of records became, and the note that the batch was read,
// commit in one Kafka transaction, or neither does. See the package documentation for what it promises.
type Transformer struct {
	member
	cfg TransformerConfig
	fn  Transform
}

// NewTransformer returns a transformer that connects when it is run.
func NewTransformer(cfg TransformerConfig, fn Transform, logger *slog.Logger) (*Transformer, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka transformer: %w", err)
	}
	for _, s := range []*sarama.Config{cfg.group(), cfg.producer(cfg.Group)} {
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("kafka transformer: %w", err)
		}
	}
	return &Transformer{
		member: member{
			brokers: cfg.Brokers, name: cfg.Group, topics: cfg.Topics, settings: cfg.group(),
			logger: logger.With("group", cfg.Group),
		},
		cfg: cfg, fn: fn,
	}, nil
}

// Run transforms until ctx ends, then finishes the transactions under way, leaves the group and returns nil. It
// returns a Permanent error when a batch can never be transformed or sent; that batch is then still unread. Whatever
// else goes wrong is tried again. Run is called once.
func (t *Transformer) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	t.member.run(ctx, func() sarama.ConsumerGroupHandler { return &transforming{Transformer: t, fail: fail} })
	if cause := context.Cause(ctx); fault.KindOf(cause) == fault.Permanent {
		return fmt.Errorf("kafka transformer %s: %w", t.cfg.Group, cause)
	}
	return nil
}

// transforming is sarama's handler: one session.
//
// Whatever fails in a transaction, there is one way back: abort, end the session, join again, and start from the
// committed offset, which says what the last transaction that committed had read. It takes no account of what failed,
// nor of whether the transaction did commit after all.
//
// Why a record is never in two transactions that commit. A member takes a partition over, in a generation of the group
// of its own, and asks for the committed offset. The member before it may still have a transaction open. Either that
// one has sent its offset already: then the cluster does not answer before it is settled (read_committed). Or it has
// not: then its offset is refused, because it names an older generation, and it cannot commit.
type transforming struct {
	*Transformer
	fail context.CancelCauseFunc
}

// Setup implements sarama.ConsumerGroupHandler.
func (t *transforming) Setup(sarama.ConsumerGroupSession) error { return nil }

// Cleanup implements sarama.ConsumerGroupHandler.
func (t *transforming) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// ConsumeClaim implements sarama.ConsumerGroupHandler: one partition in one generation. It reads, and another goroutine
// transforms, one batch at a time.
func (t *transforming) ConsumeClaim(sess sarama.ConsumerGroupSession, assigned sarama.ConsumerGroupClaim) error {
	group, this := *t.member.group.Load(), map[string][]int32{assigned.Topic(): {assigned.Partition()}}
	defer group.Resume(this) // a pause would outlive the claim
	waiting := ahead{pause: func(paused bool) {
		if paused {
			group.Pause(this)
		} else {
			group.Resume(this)
		}
	}}
	p := &partition{transforming: t, session: sess, topic: assigned.Topic(), partition: assigned.Partition()}
	work, idle, done := make(chan []*sarama.ConsumerMessage), make(chan struct{}), make(chan error, 1)
	go func() { done <- p.run(work, idle) }()
	for {
		var ready <-chan struct{}
		if len(waiting.records) > 0 {
			ready = idle
		}
		select {
		case record, ok := <-assigned.Messages():
			if !ok { // taken away, or the end
				close(work)
				return <-done
			}
			waiting.add(record)
		case <-ready:
			batch := slices.Clone(waiting.first(t.cfg.MaxRecords))
			waiting.drop(len(batch))
			work <- batch
		case err := <-done:
			return err
		}
	}
}
