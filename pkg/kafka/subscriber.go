package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/orderflow/orderflow/pkg/fault"
)

// Defaults and fixed settings of a Subscriber.
const (
	defaultMaxInFlight    = 256
	defaultNackDelay      = 100 * time.Millisecond
	defaultDrainTimeout   = 10 * time.Second
	defaultSessionTimeout = 10 * time.Second
	commitInterval        = time.Second
	// rebalanceSlack is what the cluster gives a member beyond DrainTimeout to commit and to join again.
	rebalanceSlack = 10 * time.Second

	rejoinInitial = 200 * time.Millisecond
	rejoinMax     = 5 * time.Second
)

// SubscriberConfig says what to consume and within which bounds. Zero means the default.
type SubscriberConfig struct {
	Config
	// Group is the consumer group.
	Group string
	// Topics are all topics that will be subscribed to. Consumption starts when each has been.
	Topics []string
	// MaxInFlight is how many messages of one partition are with their handlers, or wait for an earlier one of their
	// key, at a time. Default 256.
	MaxInFlight int
	// InstanceID, when set, makes the process a static member (KIP-345): it gets its partitions back at once when it
	// is killed and started again. The price: after Close its partitions wait SessionTimeout for another member.
	InstanceID string
	// NackDelay is the wait before a message that was not acknowledged is handed out again. Default 100 ms.
	NackDelay time.Duration
	// DrainTimeout bounds the wait for messages in hand when a partition is taken away and on Close; then their
	// contexts are cancelled. Default 10 s.
	DrainTimeout time.Duration
	// SessionTimeout is how long the cluster waits for a silent member before it gives its partitions to others, from
	// 6 s with a broker's default settings. Default 10 s.
	SessionTimeout time.Duration
}

func (c *SubscriberConfig) setDefaults() {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = defaultMaxInFlight
	}
	if c.NackDelay == 0 {
		c.NackDelay = defaultNackDelay
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = defaultDrainTimeout
	}
	if c.SessionTimeout == 0 {
		c.SessionTimeout = defaultSessionTimeout
	}
}

// Validate names everything that is wrong with c.
func (c *SubscriberConfig) Validate() error {
	errs := []error{c.Config.Validate()}
	if c.Group == "" {
		errs = append(errs, errors.New("group is empty"))
	}
	if len(c.Topics) == 0 || slices.Contains(c.Topics, "") {
		errs = append(errs, fmt.Errorf("topics are %q, must be one name or more, none of them empty", c.Topics))
	}
	if c.MaxInFlight < 0 || c.NackDelay < 0 || c.DrainTimeout < 0 || c.SessionTimeout < 0 {
		errs = append(errs, errors.New("bounds must not be negative"))
	}
	return errors.Join(errs...)
}

// sarama are the settings of the group's member.
func (c *SubscriberConfig) sarama() *sarama.Config {
	s := c.Sarama()
	s.Consumer.Return.Errors = true
	s.Consumer.Offsets.AutoCommit.Interval = commitInterval
	s.Consumer.Group.InstanceId = c.InstanceID
	// Heartbeats run beside the handlers, so a handler may take as long as it likes; the interval is also how soon a
	// rebalance is noticed.
	s.Consumer.Group.Session.Timeout = c.SessionTimeout
	s.Consumer.Group.Heartbeat.Interval = min(c.SessionTimeout/5, time.Second)
	// A partition that is taken away must be given up within this, or the member is thrown out of the group. Joining
	// waits for the slowest member that long, and the connection must outwait it.
	s.Consumer.Group.Rebalance.Timeout = c.DrainTimeout + rebalanceSlack
	s.Net.ReadTimeout = s.Consumer.Group.Rebalance.Timeout + 5*time.Second
	// The loop around Consume has its own backoff, and Joined should soon tell that the cluster is away.
	s.Metadata.Retry.Max = 3
	// A claim reads ahead of its handlers and pauses its partition when that is too far (claim.run), so sarama's
	// channel is always being read. Were it not, sarama would hold up all partitions of the broker for up to twice
	// MaxProcessingTime, and then subscribe to the slow one anew: no loss, but one slow partition would slow them all.
	s.Consumer.MaxProcessingTime = time.Second
	// A partition that was paused is fetched from again when the request under way returns: at most this much later.
	s.Consumer.MaxWaitTime = 100 * time.Millisecond
	return s
}

// Subscriber is Watermill's Subscriber on one member of a consumer group. See the package documentation for what it
// promises.
type Subscriber struct {
	cfg    SubscriberConfig
	logger *slog.Logger

	// ctx ends when consumption shall stop.
	ctx    context.Context
	cancel context.CancelFunc
	// stopped is closed when consumption has stopped, after the last commit.
	stopped chan struct{}

	mu            sync.Mutex
	subscriptions map[string]*subscription
	started       bool
	closed        bool

	joined  atomic.Bool
	trouble atomic.Pointer[string]
	paused  atomic.Bool
	group   atomic.Pointer[sarama.ConsumerGroup]
}

// NewSubscriber returns a subscriber that connects when every topic of cfg has been subscribed to.
func NewSubscriber(cfg SubscriberConfig, logger *slog.Logger) (*Subscriber, error) {
	cfg.setDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("kafka subscriber: %w", err)
	}
	if err := cfg.sarama().Validate(); err != nil {
		return nil, fmt.Errorf("kafka subscriber: %w", err)
	}
	s := &Subscriber{
		cfg: cfg, logger: logger.With("group", cfg.Group), stopped: make(chan struct{}),
		subscriptions: map[string]*subscription{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Subscribe returns the channel of topic's messages, each of which must be acknowledged with Ack or Nack. The topic
// must be one of SubscriberConfig.Topics, once. When ctx ends, the topic's channel is closed and its messages' contexts
// with it; the other topics go on.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return nil, fmt.Errorf("subscribe to %s: the subscriber is closed", topic)
	case !slices.Contains(s.cfg.Topics, topic):
		return nil, fmt.Errorf("subscribe to %s: not among the declared topics %q", topic, s.cfg.Topics)
	case s.subscriptions[topic] != nil:
		return nil, fmt.Errorf("subscribe to %s: already subscribed", topic)
	}
	sub := newSubscription(ctx)
	s.subscriptions[topic] = sub
	sub.stop = context.AfterFunc(ctx, func() {
		sub.close()
		s.stopWhenUnused()
	})
	if !s.started && len(s.subscriptions) == len(slices.Compact(slices.Sorted(slices.Values(s.cfg.Topics)))) {
		s.started = true
		go s.run()
	}
	return sub.out, nil
}

// stopWhenUnused leaves the group when the last subscription has ended.
func (s *Subscriber) stopWhenUnused() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, topic := range s.cfg.Topics {
		if sub := s.subscriptions[topic]; sub == nil || !sub.closed() {
			return
		}
	}
	s.cancel()
}

// run is the member's life: in the group, or on the way back into it.
func (s *Subscriber) run() {
	defer close(s.stopped)
	defer s.closeOutputs()
	var group sarama.ConsumerGroup
	backoff, last := rejoinInitial, ""
	for s.ctx.Err() == nil {
		var err error
		if group == nil {
			group, err = s.open()
		}
		session := &session{subscriber: s}
		if group != nil {
			// Consume returns when the session ends, also because the coordinator is away.
			err = group.Consume(s.ctx, s.cfg.Topics, session)
		}
		if s.ctx.Err() != nil {
			break
		}
		if session.joined {
			backoff, last = rejoinInitial, ""
		}
		if cause := fmt.Sprint(err); cause != last {
			last = cause
			s.logger.Warn("not a member of the consumer group, trying again", "topics", s.cfg.Topics, "error", err)
			s.trouble.Store(&cause)
		}
		select {
		case <-time.After(backoff):
		case <-s.ctx.Done():
		}
		backoff = min(2*backoff, rejoinMax)
	}
	if group != nil {
		if err := group.Close(); err != nil {
			s.logger.Warn("the consumer group was not left cleanly", "error", err)
		}
	}
}

// open makes the group's client, which needs a broker that answers.
func (s *Subscriber) open() (sarama.ConsumerGroup, error) {
	group, err := sarama.NewConsumerGroup(s.cfg.Brokers, s.cfg.Group, s.cfg.sarama())
	if err != nil {
		return nil, err
	}
	s.group.Store(&group)
	go func() {
		last := ""
		for err := range group.Errors() {
			// A broker that is away says so again and again, once a partition.
			if text := err.Error(); text != last {
				last = text
				s.logger.Warn("consuming from Kafka", "error", err)
			}
		}
	}()
	return group, nil
}

// Joined tells whether the process is a member of its group with a session running.
func (s *Subscriber) Joined() bool { return s.joined.Load() }

// Trouble says why the process is not a member of its group, as far as is known; nil while it is one.
func (s *Subscriber) Trouble() error {
	if s.Joined() {
		return nil
	}
	if cause := s.trouble.Load(); cause != nil {
		return fmt.Errorf("not a member of consumer group %s: %s", s.cfg.Group, *cause)
	}
	return fmt.Errorf("not a member of consumer group %s yet", s.cfg.Group)
}

// Pause stops fetching from all partitions. What has been fetched is still handed out. The member stays in the group.
func (s *Subscriber) Pause() {
	s.paused.Store(true)
	if group := s.group.Load(); group != nil {
		(*group).PauseAll()
	}
}

// Resume ends Pause.
func (s *Subscriber) Resume() {
	s.paused.Store(false)
	if group := s.group.Load(); group != nil {
		(*group).ResumeAll()
	}
}

// Close stops handing out, waits for the messages in hand (DrainTimeout at most), commits, leaves the group and closes
// all channels. It may be called more than once and waits every time.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	started := s.started
	s.mu.Unlock()
	s.cancel()
	if !started {
		s.closeOutputs()
		return nil
	}
	bound := s.cfg.DrainTimeout + rebalanceSlack
	select {
	case <-s.stopped:
		return nil
	case <-time.After(bound):
		s.closeOutputs()
		return fault.Unavailablef("close the Kafka subscriber: the group was not left within %s", bound)
	}
}

func (s *Subscriber) closeOutputs() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sub := range s.subscriptions {
		sub.stop()
		sub.close()
	}
}

// subscription is one topic's channel.
type subscription struct {
	ctx  context.Context
	out  chan *message.Message
	stop func() bool
	// done is closed before out is, so that senders let go.
	done chan struct{}
	once sync.Once
	// mu is held for reading while sending.
	mu sync.RWMutex
}

func newSubscription(ctx context.Context) *subscription {
	return &subscription{ctx: ctx, out: make(chan *message.Message), done: make(chan struct{})}
}

// send hands m out, unless the subscription or the claim ends first.
func (s *subscription) send(m *message.Message, stop <-chan struct{}) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	// A select chooses freely among what is ready; after the end nothing may go out.
	if s.closed() || isClosed(stop) {
		return false
	}
	select {
	case s.out <- m:
		return true
	case <-stop:
		return false
	case <-s.done:
		return false
	}
}

func (s *subscription) closed() bool { return isClosed(s.done) }

func (s *subscription) close() {
	s.once.Do(func() {
		close(s.done)
		s.mu.Lock()
		defer s.mu.Unlock()
		close(s.out)
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
