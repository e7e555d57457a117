package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/kafka"
)

// topicPatience is how long a topic may be missing before that counts: one that was just created is unknown to some
// brokers for a moment.
const topicPatience = 3 * time.Second

// declared returns an error if the service reads from a topic that it does not declare: nobody would create it.
func (a *App) declared() error {
	for _, name := range append(a.Consumer.Topics(), deadletter.Topic(a.Group)) {
		if !slices.ContainsFunc(a.topics, func(t kafka.Topic) bool { return t.Name == name }) {
			return fault.Permanentf("%s reads from the topic %s, which is not among those that are declared for it", a.Runtime.Name, name)
		}
	}
	return nil
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
