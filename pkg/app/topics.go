package app

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// topicPatience is how long a topic may be missing before that counts: one that was just created is unknown to some
// brokers for a moment.
const topicPatience = 3 * time.Second

// reads are the topics that the service reads from.
func (a *App) reads() []string { return append(a.Consumer.Topics(), deadletter.Topic(a.Group)) }

// declared returns an error if the service reads from a topic that it does not declare: nobody would create it.
func (a *App) declared() error {
	for _, name := range a.reads() {
		if !slices.ContainsFunc(a.topics, func(t kafka.Topic) bool { return t.Name == name }) {
			return fault.Permanentf("%s reads from the topic %s, which is not among those that are declared for it", a.Runtime.Name, name)
		}
	}
	return nil
}

// remembers returns an error if the inbox would forget a message that a topic still has: read again, or redriven again from
// a dead letter that was read again, it would take effect again. Topics whose retention is the cluster's are not looked at.
func (a *App) remembers() error {
	if a.Consumer.Guarantee() != kafka.EffectivelyOnce {
		return nil // there is no inbox
	}
	reads := a.reads()
	var longest time.Duration
	var keeper string
	for _, t := range a.topics {
		if !slices.Contains(reads, t.Name) {
			continue
		}
		kept, err := retention(t)
		if err != nil {
			return fault.AsPermanent(err)
		}
		if kept > longest {
			longest, keeper = kept, t.Name
		}
	}
	switch {
	case longest == forever:
		return fault.Permanentf("INBOX_RETENTION is %s, and none is long enough: %s reads the topic %s, which keeps its records for ever; declare a retention for it",
			a.cfg.InboxRetention, a.Runtime.Name, keeper)
	case a.cfg.InboxRetention <= longest:
		return fault.Permanentf("INBOX_RETENTION is %s, must be longer than %s, for which the topic %s, which %s reads, keeps its records",
			a.cfg.InboxRetention, longest, keeper, a.Runtime.Name)
	}
	return nil
}

// forever is the retention of a topic that never deletes by age.
const forever = time.Duration(math.MaxInt64)

// retention is for how long t is declared to keep a record, 0 if that is left to the cluster.
func retention(t kafka.Topic) (time.Duration, error) {
	if policy := t.Configs["cleanup.policy"]; policy != "" && !strings.Contains(policy, "delete") {
		return forever, nil
	}
	declared := t.Configs["retention.ms"]
	if declared == "" {
		return 0, nil
	}
	ms, err := strconv.ParseInt(declared, 10, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("topic %s: retention.ms is %q, must be a number of milliseconds, or -1 for ever", t.Name, declared)
	case ms < 0 || ms > int64(forever/time.Millisecond):
		return forever, nil
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// requireTopics returns nil when the cluster has the topics that the service needs, as soon as the cluster answers, and
// an error naming every one that is missing or too small when it answers that.
func (a *App) requireTopics(ctx context.Context, admin *kafka.Admin) error {
	names := make([]string, len(a.topics))
	for i, t := range a.topics {
		names[i] = t.Name
	}
	var since time.Time
	err := a.Runtime.Await(ctx, "topics", func(ctx context.Context) error {
		cluster, err := admin.Describe(ctx, names...)
		if err != nil {
			since = time.Time{}
			return err
		}
		lacks := kafka.Lacks(a.topics, cluster)
		if len(lacks) == 0 {
			return nil
		}
		with := "orderctl topics apply"
		if a.cfg.ReplayGroup != "" {
			with = "orderctl replay"
		}
		err = fmt.Errorf("topics are not as they are declared: %s; run `%s`", strings.Join(lacks, ", "), with)
		if since.IsZero() {
			since = time.Now()
		}
		if time.Since(since) < topicPatience {
			return fault.AsUnavailable(err)
		}
		return fault.AsPermanent(err)
	})
	if ctx.Err() != nil {
		return nil // told to stop while it waited
	}
	return err
}
