package kafka

import "github.com/IBM/sarama"

// Eager has the subscriber, before it joins, give all its partitions up whenever members come and go: the assignor is
// sticky and not cooperative-sticky.
func (s *Subscriber) Eager() {
	s.settings.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategySticky()}
}
