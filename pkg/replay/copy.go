package replay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

const (
	// look is how often the position is asked for.
	look = 300 * time.Millisecond
	// maxBatch is how many records one transaction copies.
	maxBatch = 500
	// maxCopy is the largest copy: a record that its topic took, with the headers that are added. Redrive topics take it.
	maxCopy = 1152 << 10
)

// Copier copies what a plan covers.
type Copier struct {
	Kafka kafka.Config
	Admin *kafka.Admin
	// Rate is how many records are copied a second; 0 means as fast as it goes.
	Rate int
	// Progress, if set, is called with the plan as it stands, a few times a second.
	Progress func(Plan)
	Logger   *slog.Logger
}

// Run copies what is left of a plan that has begun. It returns the plan as it then stands and how many records it
// copied, also when it fails or ctx ends; then it can be run again. It waits while the cluster is away.
func (c Copier) Run(ctx context.Context, p Plan) (Plan, int64, error) {
	if p.Done() == p.Total() {
		return p, 0, nil
	}
	w := &copying{plan: p, rate: c.Rate, ranges: map[int32]Partition{}, passed: map[int32]bool{}, counted: map[int32]int64{}}
	for _, r := range p.Partitions {
		w.ranges[r.Partition] = r
	}
	batch := maxBatch
	if c.Rate > 0 {
		batch = min(batch, c.Rate) // a wait of a second at most
	}
	t, err := kafka.NewTransformer(kafka.TransformerConfig{
		Config: c.Kafka, Group: copyGroup(p.ID), Topics: []string{p.Topic}, MaxRecords: batch, MaxMessageBytes: maxCopy,
	}, w.transform, c.Logger)
	if err != nil {
		return p, 0, err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- t.Run(running) }()
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			// What it did last has committed by now, and is asked for whether or not ctx has ended.
			located := w.locate(context.WithoutCancel(ctx), c.Admin)
			if err == nil && ctx.Err() != nil && w.plan.Done() < w.plan.Total() {
				err = ctx.Err()
			}
			return w.plan, w.copied(), cmp.Or(err, located)
		case <-tick.C:
			if err := w.locate(running, c.Admin); err != nil {
				if fault.KindOf(err) == fault.Unavailable || ctx.Err() != nil {
					continue
				}
				stop()
				return w.plan, w.copied(), errors.Join(err, <-ended)
			}
			if c.Progress != nil {
				c.Progress(w.plan)
			}
			if w.plan.Done() == w.plan.Total() {
				stop()
			}
		}
	}
}

// copying is one run.
type copying struct {
	plan   Plan
	rate   int
	ranges map[int32]Partition

	mu sync.Mutex
	// passed are the partitions that were read up to the end of their stretch.
	passed map[int32]bool
	// counted is up to where records were counted: a batch may come again.
	counted map[int32]int64
	records int64
	// free is when the rate lets the next record go.
	free time.Time
}

// transform makes copies of a batch. At the end of the stretch it stops the partition: what follows is not ours.
func (w *copying) transform(ctx context.Context, in []kafka.Record) ([]kafka.Record, error) {
	r := w.ranges[in[0].Partition] // nothing for a partition that is left out
	if in[0].Offset >= r.To {
		w.mu.Lock()
		w.passed[in[0].Partition] = true
		w.mu.Unlock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	var out []kafka.Record
	for _, record := range in {
		if record.Offset >= r.From && record.Offset < r.To {
			out = append(out, w.plan.copyOf(record))
		}
	}
	return out, w.count(ctx, in[0].Partition, in[len(in)-1].Offset, len(out))
}

// count counts copies and waits as the rate demands.
func (w *copying) count(ctx context.Context, partition int32, last int64, n int) error {
	w.mu.Lock()
	if seen, again := w.counted[partition]; !again || last > seen {
		w.counted[partition] = last
		w.records += int64(n)
	}
	if w.rate == 0 {
		w.mu.Unlock()
		return nil
	}
	if now := time.Now(); w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(n) * time.Second / time.Duration(w.rate))
	wait := time.Until(w.free)
	w.mu.Unlock()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *copying) copied() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.records
}

// locate updates the plan. Between the last record of a stretch and its end there may be a gap, over which only the next
// record leads.
func (w *copying) locate(ctx context.Context, admin *kafka.Admin) error {
	w.mu.Lock()
	passed := maps.Clone(w.passed)
	w.mu.Unlock()
	if err := w.plan.locate(ctx, admin); err != nil {
		return err
	}
	for i := range w.plan.Partitions {
		if r := &w.plan.Partitions[i]; passed[r.Partition] {
			r.Next = r.To
		}
	}
	return nil
}

// copyOf is a record on its way to the target.
func (p Plan) copyOf(r kafka.Record) kafka.Record {
	h := make(map[string]string, len(r.Headers)+6)
	maps.Copy(h, r.Headers)
	h[deadletter.HeaderTopic] = r.Topic
	h[deadletter.HeaderPartition] = strconv.Itoa(int(r.Partition))
	h[deadletter.HeaderOffset] = strconv.FormatInt(r.Offset, 10)
	h[deadletter.HeaderTimestamp] = r.Timestamp.UTC().Format(time.RFC3339Nano)
	h[deadletter.HeaderReplay] = p.ID
	h[deadletter.HeaderReplayInbox] = p.Inbox
	return kafka.Record{Topic: deadletter.RedriveTopic(p.Target), Key: r.Key, Value: r.Value, Headers: h}
}
