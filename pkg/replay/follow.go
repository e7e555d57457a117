package replay

import (
	"context"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// Status is how far the target is with what it was sent.
type Status struct {
	// Waiting is how many offsets of the redrive topic are left, Members who reads them.
	Waiting int64
	Members int
}

// Follow waits until the target has handled everything on its redrive topic, and calls progress as it goes on. It waits
// while the cluster is away.
func Follow(ctx context.Context, admin *kafka.Admin, target string, progress func(Status)) error {
	topic := deadletter.RedriveTopic(target)
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		lags, err := admin.Lag(ctx, map[string][]string{target: {topic}})
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			s, busy := Status{Members: lags[0].Members}, false
			for _, p := range lags[0].Partitions {
				if p.Topic == topic && (p.Unknown || !p.Oldest.IsZero()) { // and not the markers of transactions
					s.Waiting += p.Lag
					busy = true
				}
			}
			progress(s)
			if !busy {
				return nil
			}
		case fault.KindOf(err) != fault.Unavailable:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DeadLetters counts the copies that the target has given up so far.
func DeadLetters(ctx context.Context, cfg kafka.Config, admin *kafka.Admin, p Plan) (n int, err error) {
	topic := deadletter.Topic(p.Target)
	ranges, err := admin.Ranges(ctx, topic)
	if err != nil {
		return 0, err
	}
	// Clocks differ; none older than the replay by a minute is one of its letters.
	since, err := admin.OffsetsAt(ctx, topic, p.Begun.Add(-time.Minute))
	if err != nil {
		return 0, err
	}
	for partition, r := range ranges {
		if since[partition] < 0 {
			delete(ranges, partition)
			continue
		}
		ranges[partition] = kafka.Range{Start: max(r.Start, since[partition]), End: r.End}
	}
	err = kafka.Read(ctx, cfg, topic, ranges, func(r kafka.Record) {
		if r.Headers[deadletter.HeaderReplay] == p.ID {
			n++
		}
	})
	return n, err
}
