package kafka_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/kafka"
)

// declared is a topic of 2 partitions and 2 copies with a value for each setting that is planned, changed by set.
func declared(set map[string]string) kafka.Topic {
	configs := map[string]string{
		"retention.ms": "1000", "max.message.bytes": "500", "min.insync.replicas": "1", "cleanup.policy": "delete",
	}
	maps.Copy(configs, set)
	return kafka.Topic{Name: "t", Partitions: 2, Replication: 2, Configs: configs}
}

// had is how a cluster of three brokers has that topic, changed by set.
func had(set map[string]string, replicas ...[]int32) kafka.Cluster {
	if len(replicas) == 0 {
		replicas = [][]int32{{1, 2}, {2, 3}}
	}
	configs := declared(set).Configs
	configs["segment.ms"] = "7"
	return kafka.Cluster{
		Brokers: []kafka.Broker{{ID: 1}, {ID: 2}, {ID: 3}},
		Topics:  map[string]kafka.TopicState{"t": {Replicas: replicas, Configs: configs}},
	}
}

func config(name, from, to string) kafka.Change {
	return kafka.Change{Topic: "t", Kind: kafka.ChangeConfig, Config: name, From: from, To: to}
}

func refusedConfig(name, from, to, why string) kafka.Change {
	c := config(name, from, to)
	c.Refused = why
	c.ByHand = "kafka-configs.sh --bootstrap-server $KAFKA_BROKERS --alter --entity-type topics --entity-name t --add-config '" + name + "=" + to + "'"
	return c
}

func TestPlan(t *testing.T) {
	t.Parallel()
	type set = map[string]string
	for name, tc := range map[string]struct {
		declared kafka.Topic
		actual   kafka.Cluster
		grow     bool
		want     []kafka.Change
	}{
		"nothing":    {declared: declared(nil), actual: had(nil)},
		"missing":    {declared: declared(nil), actual: kafka.Cluster{Brokers: had(nil).Brokers}, want: []kafka.Change{{Topic: "t", Kind: kafka.ChangeCreate, To: "2 partitions, 2 copies"}}},
		"any copies": {declared: kafka.Topic{Name: "t", Partitions: 2}, actual: had(nil)},
		"missing, and any copies": {
			declared: kafka.Topic{Name: "t", Partitions: 2}, actual: kafka.Cluster{},
			want: []kafka.Change{{Topic: "t", Kind: kafka.ChangeCreate, To: "2 partitions"}},
		},

		"more partitions, told how": {
			declared: declared(nil), actual: had(nil, []int32{1, 2}), grow: true,
			want: []kafka.Change{{Topic: "t", Kind: kafka.ChangePartitions, From: "1", To: "2"}},
		},
		"more partitions": {
			declared: declared(nil), actual: had(nil, []int32{1, 2}),
			want: []kafka.Change{{
				Topic: "t", Kind: kafka.ChangePartitions, From: "1", To: "2",
				Refused: "keys would move to other partitions, and records of one key overtake each other",
				ByHand:  "kafka-topics.sh --bootstrap-server $KAFKA_BROKERS --alter --topic t --partitions 2",
			}},
		},
		"fewer partitions": {
			declared: declared(nil), actual: had(nil, []int32{1, 2}, []int32{1, 2}, []int32{1, 2}), grow: true,
			want: []kafka.Change{{
				Topic: "t", Kind: kafka.ChangePartitions, From: "3", To: "2", Refused: "Kafka takes no partition away",
				ByHand: "kafka-topics.sh --bootstrap-server $KAFKA_BROKERS --delete --topic t # with every record; then create it anew",
			}},
		},
		"more copies": {
			declared: declared(nil), actual: had(nil, []int32{1, 2}, []int32{2}),
			want: []kafka.Change{{Topic: "t", Kind: kafka.ChangeReplication, From: "1", To: "2"}},
		},
		"fewer copies": {
			declared: declared(nil), actual: had(nil, []int32{3, 2, 1}, []int32{1, 2}),
			want: []kafka.Change{{
				Topic: "t", Kind: kafka.ChangeReplication, From: "3", To: "2", Refused: "fewer copies survive fewer failures",
				ByHand: `echo '{"version":1,"partitions":[{"topic":"t","partition":0,"replicas":[3,2]},{"topic":"t","partition":1,"replicas":[1,2]}]}' >fewer.json; ` +
					`kafka-reassign-partitions.sh --bootstrap-server $KAFKA_BROKERS --execute --reassignment-json-file fewer.json`,
			}},
		},

		"longer retention":    {declared: declared(nil), actual: had(set{"retention.ms": "999"}), want: []kafka.Change{config("retention.ms", "999", "1000")}},
		"unlimited retention": {declared: declared(set{"retention.ms": "-1"}), actual: had(nil), want: []kafka.Change{config("retention.ms", "1000", "-1")}},
		"shorter retention": {
			declared: declared(nil), actual: had(set{"retention.ms": "1001"}),
			want: []kafka.Change{refusedConfig("retention.ms", "1001", "1000", "records that are older would be deleted")},
		},
		"limited retention": {
			declared: declared(nil), actual: had(set{"retention.ms": "-1"}),
			want: []kafka.Change{refusedConfig("retention.ms", "-1", "1000", "records that are older would be deleted")},
		},
		"limited size": {
			declared: declared(set{"retention.bytes": "10"}), actual: had(set{"retention.bytes": "-1"}),
			want: []kafka.Change{refusedConfig("retention.bytes", "-1", "10", "records beyond that size would be deleted")},
		},
		"larger records": {declared: declared(nil), actual: had(set{"max.message.bytes": "499"}), want: []kafka.Change{config("max.message.bytes", "499", "500")}},
		"smaller records": {
			declared: declared(nil), actual: had(set{"max.message.bytes": "501"}),
			want: []kafka.Change{refusedConfig("max.message.bytes", "501", "500", "records that were taken so far would be turned away, and those behind them wait")},
		},
		"more in sync": {declared: declared(set{"min.insync.replicas": "2"}), actual: had(nil), want: []kafka.Change{config("min.insync.replicas", "1", "2")}},
		"fewer in sync": {
			declared: declared(nil), actual: had(set{"min.insync.replicas": "2"}),
			want: []kafka.Change{refusedConfig("min.insync.replicas", "2", "1", "a record would count as sent with fewer copies")},
		},
		"another cleanup": {
			declared: declared(nil), actual: had(set{"cleanup.policy": "compact"}),
			want: []kafka.Change{refusedConfig("cleanup.policy", "compact", "delete", "the other policy removes other records")},
		},
		"the same cleanup": {declared: declared(set{"cleanup.policy": "compact,delete"}), actual: had(set{"cleanup.policy": "delete, compact"})},
		"a setting with no rule": {
			declared: declared(set{"segment.ms": "8"}), actual: had(nil),
			want: []kafka.Change{refusedConfig("segment.ms", "7", "8", "it is not known here whether that loses records")},
		},
		"no number": {
			declared: declared(nil), actual: had(set{"retention.ms": ""}),
			want: []kafka.Change{refusedConfig("retention.ms", "", "1000", "it is not known which of the two is more")},
		},

		"several at once": {
			declared: declared(set{"min.insync.replicas": "2"}), actual: had(set{"retention.ms": "1"}, []int32{1}), grow: true,
			want: []kafka.Change{
				{Topic: "t", Kind: kafka.ChangePartitions, From: "1", To: "2"},
				{Topic: "t", Kind: kafka.ChangeReplication, From: "1", To: "2"},
				config("min.insync.replicas", "1", "2"), config("retention.ms", "1", "1000"),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes, err := kafka.Plan([]kafka.Topic{tc.declared}, tc.actual, tc.grow)
			require.NoError(t, err)
			require.Equal(t, tc.want, changes)
		})
	}
}

func TestPlanOfAListByHand(t *testing.T) {
	t.Parallel()
	changes, err := kafka.Plan([]kafka.Topic{declared(map[string]string{"cleanup.policy": "compact,delete"})}, had(nil), false)
	require.NoError(t, err)
	require.Len(t, changes, 1)
	require.Contains(t, changes[0].ByHand, "--add-config 'cleanup.policy=[compact,delete]'")
}

func TestPlanNeedsBrokers(t *testing.T) {
	t.Parallel()
	topics := []kafka.Topic{{Name: "there", Partitions: 1, Replication: 3}, {Name: "new", Partitions: 1, Replication: 3}, {Name: "thin", Partitions: 1, Replication: 3}}
	cluster := kafka.Cluster{Brokers: []kafka.Broker{{ID: 1}, {ID: 2}}, Topics: map[string]kafka.TopicState{
		"there": {Replicas: [][]int32{{1, 2, 3}}}, "thin": {Replicas: [][]int32{{1}}},
	}}
	_, err := kafka.Plan(topics, cluster, false)
	require.EqualError(t, err, "3 copies are declared, but the cluster has 2 brokers: new, thin")
	changes, err := kafka.Plan(topics[:1], cluster, false)
	require.NoError(t, err, "a broker that is down is no reason to touch what has a copy on it")
	require.Empty(t, changes)
}

func TestLacks(t *testing.T) {
	t.Parallel()
	cluster := had(nil)
	for name, tc := range map[string]struct {
		needed kafka.Topic
		want   []string
	}{
		"enough":         {needed: declared(nil)},
		"more than that": {needed: kafka.Topic{Name: "t", Partitions: 1, Replication: 3, Configs: map[string]string{"max.message.bytes": "499", "retention.ms": "99999"}}},
		"only to exist":  {needed: kafka.Topic{Name: "t"}},
		"missing":        {needed: kafka.Topic{Name: "u", Partitions: 1}, want: []string{"u is missing"}},
		"too small twice": {
			needed: kafka.Topic{Name: "t", Partitions: 3, Configs: map[string]string{"max.message.bytes": "501"}},
			want:   []string{"t has 2 partitions instead of 3", "t takes records of up to 500 bytes instead of 501"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tc.want, kafka.Lacks([]kafka.Topic{tc.needed}, cluster))
		})
	}
}
