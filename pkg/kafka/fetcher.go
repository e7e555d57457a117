package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// Bounds of a fetcher.
const (
	// fetchWait is how long a broker holds a request back while it has nothing. A partition that comes to it, or goes on
	// after a pause, waits for the request under way. After a change it is newsWait, and doubles with each request:
	// changes seldom come alone.
	fetchWait = 250 * time.Millisecond
	newsWait  = 10 * time.Millisecond
	// fetchBytes bounds an answer, and partitionBytes what it has of one partition; a batch that is larger comes alone.
	fetchBytes     = 16 << 20
	partitionBytes = 1 << 20
	// maxPartitionBytes is how far partitionBytes is raised for what does not fit into it.
	maxPartitionBytes = 64 << 20
	// fruitless is the pause after an answer that came early and had no record in it.
	fruitless = 20 * time.Millisecond

	relocateInitial = 50 * time.Millisecond
	relocateMax     = 2 * time.Second
)

// fetcher reads partitions by fetch sessions (KIP-227): a request names only the partitions that were added or have moved
// on, and an answer those that have something. sarama's own consumer names all of them each time, and wakes a goroutine for
// each: a group that listens to nine topics pays for 54 partitions with every message.
//
// One goroutine a broker asks, and gives what it gets to the partitions' readers.
type fetcher struct {
	brokers  []string
	settings *sarama.Config
	logger   *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	connecting sync.Mutex
	client     sarama.Client

	mu      sync.Mutex
	leaders map[int32]*fetchSession
	// paused holds back all partitions.
	paused bool
	// trouble is what was logged last.
	trouble string
}

// fetchSession is what is read from one broker.
type fetchSession struct {
	broker int32
	// sources are in the session; the fetcher's mu guards them. news has a value when they have changed.
	sources map[*source]bool
	news    chan struct{}

	// id and epoch are those of the next request; with epoch 0 it begins a session. asked are the partitions that the
	// broker knows of, with the offset and the size that it was told last.
	id, epoch int32
	asked     map[*source]asked
	// wait is how long the broker may hold the next request back.
	wait time.Duration
}

// asked is where, and how much, a broker was told to read.
type asked struct {
	offset int64
	size   int32
}

func newFetcher(brokers []string, settings *sarama.Config, logger *slog.Logger) *fetcher {
	settings.Metadata.Retry.Max = 0 // it asks again by itself
	f := &fetcher{brokers: brokers, settings: settings, logger: logger, leaders: map[int32]*fetchSession{}}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// open begins to read a partition at an offset, or at sarama.OffsetOldest or OffsetNewest.
func (f *fetcher) open(topic string, number int32, offset int64) *source {
	s := &source{
		topic: topic, number: number, offset: offset, size: partitionBytes,
		records: make(chan []*sarama.ConsumerMessage), gone: make(chan struct{}),
	}
	f.locateLater(s, 0)
	return s
}

// release ends the reading of s.
func (f *fetcher) release(s *source) {
	close(s.gone)
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.session != nil {
		s.session.remove(s)
	}
}

// pause holds s back, or not any more. What is under way still comes.
func (f *fetcher) pause(s *source, paused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.paused = paused
	if s.session != nil {
		s.session.tell()
	}
}

// pauseAll holds all partitions back, or not any more, also those that come later.
func (f *fetcher) pauseAll(paused bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.paused = paused
	for _, session := range f.leaders {
		session.tell()
	}
}

// close ends all reading and disconnects.
func (f *fetcher) close() {
	f.cancel()
	f.work.Wait()
	if f.client != nil {
		if err := f.client.Close(); err != nil {
			f.logger.Warn("the connection to read from Kafka was not closed cleanly", "error", err)
		}
	}
}

func (r *fetchSession) remove(s *source) {
	delete(r.sources, s)
	s.session = nil
	r.tell()
}

func (r *fetchSession) tell() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// connected returns the client, which is connected when it is first wanted: a connection apart from the group's, so that
// heartbeats and commits do not stand behind a request that waits.
func (f *fetcher) connected() (sarama.Client, error) {
	f.connecting.Lock()
	defer f.connecting.Unlock()
	if f.client == nil {
		client, err := sarama.NewClient(f.brokers, f.settings)
		if err != nil {
			return nil, err
		}
		f.client = client
	}
	return f.client, nil
}

// locateLater finds the leader of s after a pause, and puts s into its session.
func (f *fetcher) locateLater(s *source, pause time.Duration) {
	f.work.Go(func() {
		for ; ; pause = min(max(2*pause, relocateInitial), relocateMax) {
			if pause > 0 && !f.rest(s, pause) {
				return
			}
			broker, err := f.locate(s, pause > 0)
			if err == nil {
				f.add(s, broker)
				return
			}
			f.troubled(fmt.Errorf("find the leader of %s/%d: %w", s.topic, s.number, err))
		}
	})
}

// rest waits, and tells whether s is still wanted.
func (f *fetcher) rest(s *source, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.gone:
	case <-f.ctx.Done():
	}
	return false
}

// locate returns the leader of s, and settles where s begins.
func (f *fetcher) locate(s *source, anew bool) (int32, error) {
	client, err := f.connected()
	if err != nil {
		return 0, err
	}
	if anew {
		if err := client.RefreshMetadata(s.topic); err != nil {
			return 0, err
		}
	}
	if s.offset < 0 {
		if s.offset, err = client.GetOffset(s.topic, s.number, s.offset); err != nil {
			return 0, err
		}
	}
	broker, err := client.Leader(s.topic, s.number)
	if err != nil {
		return 0, err
	}
	return broker.ID(), nil
}

func (f *fetcher) add(s *source, broker int32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if isClosed(s.gone) || f.ctx.Err() != nil {
		return
	}
	r := f.leaders[broker]
	if r == nil {
		r = &fetchSession{broker: broker, sources: map[*source]bool{}, news: make(chan struct{}, 1), asked: map[*source]asked{}}
		f.leaders[broker] = r
		f.work.Go(func() { f.read(r) })
	}
	r.sources[s], s.session = true, r
	r.tell()
}

// troubled logs what is new.
func (f *fetcher) troubled(err error) {
	f.mu.Lock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	known := f.trouble == text
	f.trouble = text
	f.mu.Unlock()
	if err != nil && !known && f.ctx.Err() == nil {
		f.logger.Warn("reading from Kafka", "error", err)
	}
}

// read asks one broker, for as long as it leads partitions that are read.
func (f *fetcher) read(r *fetchSession) {
	for {
		sources, wanted := f.wanted(r)
		switch {
		case !wanted:
			return
		case len(sources) == 0:
			select {
			case <-r.news:
				r.wait = 0
			case <-f.ctx.Done():
				return
			}
			continue
		}
		select {
		case <-r.news:
			r.wait = newsWait
		default:
			r.wait = min(max(2*r.wait, newsWait), fetchWait)
		}
		began := time.Now()
		response, err := f.ask(r, sources)
		if err != nil {
			f.troubled(fmt.Errorf("fetch from broker %d: %w", r.broker, err))
			r.begin()
			f.relocate(r, sources)
			continue
		}
		if f.deal(r, sources, response) {
			f.troubled(nil)
		} else if time.Since(began) < fruitless {
			wait(f.ctx, fruitless)
		}
	}
}

// wanted returns the partitions to ask for now, and false when the session is over.
func (f *fetcher) wanted(r *fetchSession) ([]*source, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(r.sources) == 0 || f.ctx.Err() != nil {
		delete(f.leaders, r.broker)
		return nil, false
	}
	var sources []*source
	for s := range r.sources {
		if !s.paused && !f.paused {
			sources = append(sources, s)
		}
	}
	return sources, true
}

// begin has the next request begin a session.
func (r *fetchSession) begin() {
	r.epoch = 0
	clear(r.asked)
}

// request names what the broker does not know yet. When it knows of partitions that are not wanted, a new session takes
// the old one's place: sarama's request cannot name what is to be forgotten.
func (r *fetchSession) request(sources []*source, isolation sarama.IsolationLevel) *sarama.FetchRequest {
	known := 0
	for _, s := range sources {
		if _, is := r.asked[s]; is {
			known++
		}
	}
	if known < len(r.asked) {
		r.begin()
	}
	request := &sarama.FetchRequest{
		Version: 11, MinBytes: 1, MaxWaitTime: int32(r.wait.Milliseconds()), MaxBytes: fetchBytes,
		Isolation: isolation, SessionID: r.id, SessionEpoch: r.epoch,
	}
	for _, s := range sources {
		now := asked{s.offset, s.size}
		if was, is := r.asked[s]; !is || was != now {
			request.AddBlock(s.topic, s.number, now.offset, now.size, -1)
			r.asked[s] = now
		}
	}
	return request
}

// ask sends a request and waits for the answer. After an error the connection is closed, and another one opened by the
// next request.
func (f *fetcher) ask(r *fetchSession, sources []*source) (*sarama.FetchResponse, error) {
	client, err := f.connected()
	if err != nil {
		return nil, err
	}
	broker, err := client.Broker(r.broker)
	if err != nil {
		return nil, err
	}
	response, err := broker.Fetch(r.request(sources, f.settings.Consumer.IsolationLevel))
	if err != nil {
		return nil, errors.Join(err, closed(broker))
	}
	switch code := sarama.KError(response.ErrorCode); code {
	case sarama.ErrNoError:
	case sarama.ErrFetchSessionIDNotFound, sarama.ErrInvalidFetchSessionEpoch:
		r.begin() // the broker has forgotten it
		return response, nil
	default:
		return nil, code
	}
	r.id = response.SessionID
	switch {
	case r.id == 0: // the broker has no room for another session
		r.begin()
	case r.epoch == 1<<31-1:
		r.epoch = 1
	default:
		r.epoch++
	}
	return response, nil
}

// relocate looks for the leaders of these partitions, some time later.
func (f *fetcher) relocate(r *fetchSession, sources []*source) {
	f.mu.Lock()
	for _, s := range sources {
		if r.sources[s] {
			r.remove(s)
		}
	}
	f.mu.Unlock()
	for _, s := range sources {
		f.locateLater(s, relocateInitial)
	}
}

// deal gives what came to those who read, and tells whether there was anything to give.
func (f *fetcher) deal(r *fetchSession, sources []*source, response *sarama.FetchResponse) (any bool) {
	if len(response.Blocks) == 0 {
		return true // it waited for nothing
	}
	var moved []*source
	for _, s := range sources {
		block := response.GetBlock(s.topic, s.number)
		if block == nil {
			continue
		}
		if code := block.Err; !errors.Is(code, sarama.ErrNoError) {
			f.troubled(fmt.Errorf("fetch %s/%d at %d: %w", s.topic, s.number, s.offset, code))
			r.begin() // without it, or the broker says so again each time
			if errors.Is(code, sarama.ErrOffsetOutOfRange) {
				f.end(s)
			} else {
				moved = append(moved, s)
			}
			continue
		}
		records, next := s.read(block, f.settings.Consumer.IsolationLevel)
		switch {
		case next > s.offset:
			s.offset, s.size, any = next, partitionBytes, true
		case block.LastStableOffset > s.offset: // there is something that did not fit, or nothing but empty batches
			s.size = min(2*s.size, maxPartitionBytes)
		}
		if len(records) == 0 {
			continue
		}
		select {
		case s.records <- records:
		case <-s.gone:
		case <-f.ctx.Done():
			return any
		}
	}
	f.relocate(r, moved)
	return any
}

// end tells the reader of s that there is nothing where it stands.
func (f *fetcher) end(s *source) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s.session != nil {
		s.session.remove(s)
	}
	close(s.records)
}
