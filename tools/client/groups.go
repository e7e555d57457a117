package client

import (
	"github.com/orderflow/orderflow/api/events"
	"github.com/orderflow/orderflow/pkg/deadletter"
)

// Groups are the consumer groups of the services with the topics that each reads, from the contracts.
func Groups() map[string][]string {
	groups := map[string][]string{}
	for _, service := range Services() {
		for _, topic := range events.Received(service) {
			group := service
			if topic.Kind == events.KindDeadLetter {
				group = deadletter.IndexGroup(service)
			}
			groups[group] = append(groups[group], topic.Name)
		}
	}
	return groups
}
