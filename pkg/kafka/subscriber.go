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
	defaultMaxInFlight      = 256
	defaultMaxInFlightTotal = 2048
	defaultMaxInFlightBytes = 32 << 20
	defaultNackDelay        = 100 * time.Millisecond
	defaultDrainTimeout     = 10 * time.Second
	defaultSessionTimeout   = 10 * time.Second
	defaultParkAfter        = time.Second
	defaultParkedMax        = 10_000
	commitInterval          = time.Second
	// ownInFlight is how many messages a partition may have in flight whatever others have.
	ownInFlight = 32
)

// SubscriberConfig says what to consume and within which bounds. Zero means the default.
type SubscriberConfig struct {
	Config
	// Group is the consumer group.
	Group string
	// Topics are all topics that will be subscribed to. Consumption starts when each has been.
	Topics []string
	// Guarantee is when offsets are committed. AtMostOnce commits before messages are handed out, MaxInFlight of them at
	// once; those in hand and those committed with them are lost when the process is killed. A negative acknowledgement
	// gives the message up. AtLeastOnce and EffectivelyOnce commit afterwards and are the same here: what makes a
	// delivery effective once is the handler's inbox.
	Guarantee Guarantee
	// MaxInFlight is how many messages of one partition are with their handlers, or wait for an earlier one of their
	// key, at a time. Default 256.
	MaxInFlight int
	// MaxInFlightTotal is how many there are of all partitions together, beside up to 32 of each, so that partitions
	// that are stuck leave the others theirs. Default 2048.
	MaxInFlightTotal int
	// MaxInFlightBytes is how many bytes of keys, values and headers the messages of all partitions may have together. Each
	// partition of the member has the same share, which goes for what is taken up from when it has changed; one message of
	// each may be larger. What was fetched ahead of them comes on top, about 1 MiB a partition. Default 32 MiB.
	MaxInFlightBytes int
	// Parking, if set, takes the messages that have to wait for longer than ParkAfter, or while others want their place.
	// Without one they wait in memory, as they do with AtMostOnce.
	Parking Parking
	// ParkAfter is how long a message may keep its place in memory while it waits to be tried again, and how long one that
	// is with its handler may keep places for those behind it when others want them. Default 1 s.
	ParkAfter time.Duration
	// ParkedMax is how many messages of one partition may be parked, those of blocked keys among them; what is in memory
	// when it is reached may be parked on top. Those beyond keep their places in memory, and when they have all of them the
	// partition stands still until fewer are parked. Default 10,000.
	ParkedMax int
	// InstanceID, when set, makes the process a static member (KIP-345): it gets its partitions back at once when it
	// is killed and started again. No other process may have the name at the same time. Close leaves the group.
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
	if c.MaxInFlightTotal == 0 {
		c.MaxInFlightTotal = defaultMaxInFlightTotal
	}
	if c.MaxInFlightBytes == 0 {
		c.MaxInFlightBytes = defaultMaxInFlightBytes
	}
	if c.ParkAfter == 0 {
		c.ParkAfter = defaultParkAfter
	}
	if c.ParkedMax == 0 {
		c.ParkedMax = defaultParkedMax
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
	errs := []error{c.Config.Validate(), c.Guarantee.Validate()}
	if c.Group == "" {
		errs = append(errs, errors.New("group is empty"))
	}
	if len(c.Topics) == 0 || slices.Contains(c.Topics, "") {
		errs = append(errs, fmt.Errorf("topics are %q, must be one name or more, none of them empty", c.Topics))
	}
	if c.MaxInFlight < 0 || c.MaxInFlightTotal < 0 || c.MaxInFlightBytes < 0 || c.ParkAfter < 0 || c.ParkedMax < 0 ||
		c.NackDelay < 0 || c.DrainTimeout < 0 || c.SessionTimeout < 0 {
		errs = append(errs, errors.New("bounds must not be negative"))
	}
	return errors.Join(errs...)
}

// sarama are the settings of the group's member.
func (c *SubscriberConfig) sarama() *sarama.Config {
	s := c.Sarama()
	groupSettings(s, c.InstanceID, c.SessionTimeout, c.DrainTimeout)
	// The fetcher reads. What sarama asks for of a partition before it is paused is thrown away.
	s.Consumer.Fetch.Default, s.Consumer.Fetch.MaxBytes = 1, 1
	s.Consumer.Offsets.AutoCommit.Interval = commitInterval
	// AtMostOnce commits by itself (claim.reserve): what sarama does with marked offsets comes later, and unseen.
	s.Consumer.Offsets.AutoCommit.Enable = c.Guarantee != AtMostOnce
	return s
}

// Subscriber is Watermill's Subscriber on one member of a consumer group. See the package documentation for what it
// promises.
type Subscriber struct {
	member
	cfg SubscriberConfig

	// ctx ends when consumption shall stop.
	ctx    context.Context
	cancel context.CancelFunc
	// stopped is closed when consumption has stopped, after the last commit.
	stopped chan struct{}
	// shared has the tokens of claims that have used up their own.
	shared chan struct{}
	// claims is how many partitions there are.
	claims atomic.Int64

	fetcher *fetcher

	mu            sync.Mutex
	subscriptions map[string]*subscription
	// parking are the claims that park messages.
	parking map[*claim]struct{}
	started bool
	closed  bool
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
		member: member{
			brokers: cfg.Brokers, name: cfg.Group, topics: cfg.Topics, settings: cfg.sarama(),
			logger: logger.With("group", cfg.Group),
		},
		cfg: cfg, stopped: make(chan struct{}), shared: make(chan struct{}, cfg.MaxInFlightTotal), subscriptions: map[string]*subscription{},
		parking: map[*claim]struct{}{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.fetcher = newFetcher(cfg.Brokers, cfg.Sarama(), s.logger)
	return s, nil
}

// Guarantee is that of the subscriber's configuration.
func (s *Subscriber) Guarantee() Guarantee { return s.cfg.Guarantee }

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

// run is the subscriber's life, which ends with s.ctx.
func (s *Subscriber) run() {
	defer close(s.stopped)
	defer s.closeOutputs()
	defer s.fetcher.close()
	s.member.run(s.ctx, func() sarama.ConsumerGroupHandler { return &session{subscriber: s} })
}

// parks notes that a claim parks messages, or no longer does.
func (s *Subscriber) parks(c *claim, does bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if does {
		s.parking[c] = struct{}{}
	} else {
		delete(s.parking, c)
	}
}

// Pause stops fetching from all partitions. What has been fetched is still handed out. The member stays in the group.
func (s *Subscriber) Pause() { s.fetcher.pauseAll(true) }

// Resume ends Pause.
func (s *Subscriber) Resume() { s.fetcher.pauseAll(false) }

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
