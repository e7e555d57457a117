package app

import (
	"context"
	"strings"

	"github.com/orderflow/orderflow/pkg/deadletter"
	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/inbox"
	"github.com/orderflow/orderflow/pkg/kafka"
	"github.com/orderflow/orderflow/pkg/outbox"
)

// checkReplayGroup refuses a group that is no neighbour of the service's own: it could be another service's.
func checkReplayGroup(service, group string) error {
	name, ours := strings.CutPrefix(group, service+".")
	if !ours || name == "" || !kafka.ValidName(deadletter.RedriveTopic(group)) {
		return fault.Permanentf("REPLAY_GROUP is %q, must be %s.<name> of letters, digits, '.', '_' and '-', as in %s.replay", group, service, service)
	}
	return nil
}

// besides are the topics of a replay group: dead letters and redrives, declared as the service's own are.
func besides(topics []kafka.Topic, service, group string) []kafka.Topic {
	var own []kafka.Topic
	for _, t := range topics {
		switch t.Name {
		case deadletter.Topic(service):
			t.Name = deadletter.Topic(group)
			own = append(own, t)
		case deadletter.RedriveTopic(service):
			t.Name = deadletter.RedriveTopic(group)
			own = append(own, t)
		}
	}
	return own
}

// checkReplayDatabase refuses the live service's database, where everything would be handled a second time.
func (a *App) checkReplayDatabase(ctx context.Context) error {
	other, err := inbox.Foreign(ctx, a.DB, a.Group)
	if err == nil && other != "" {
		err = fault.Permanentf("DATABASE_URL is the database of group %s; REPLAY_GROUP %s needs one of its own", other, a.Group)
	}
	return err
}

// relayTo is who gets what the outbox holds. Beside the service that is nobody: what history leads to has been sent. It
// is relayed nevertheless, so that the table stays small.
func (a *App) relayTo() outbox.Sender {
	if a.cfg.ReplayGroup != "" {
		return nobody{}
	}
	return a.sender
}

type nobody struct{}

// SendBatch implements outbox.Sender.
func (nobody) SendBatch(context.Context, []event.Addressed) []error { return nil }
