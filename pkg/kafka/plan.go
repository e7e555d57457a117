package kafka

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
)

// ChangeKind says what a Change is about.
type ChangeKind string

// Kinds of changes.
const (
	ChangeCreate      ChangeKind = "create"
	ChangePartitions  ChangeKind = "partitions"
	ChangeReplication ChangeKind = "replication"
	ChangeConfig      ChangeKind = "config"
)

// Change is one difference between a topic as declared and as the cluster has it.
type Change struct {
	Topic string     `json:"topic"`
	Kind  ChangeKind `json:"kind"`
	// Config is the name of the setting, for ChangeConfig only.
	Config string `json:"config,omitempty"`
	// From and To are the values in Kafka's own form: a count, or the setting's text. A topic is created from nothing.
	From string `json:"from,omitempty"`
	To   string `json:"to"`
	// Refused is why Apply does not do it, ByHand the command of somebody who wants it nevertheless. Both are empty for a
	// change that Apply does.
	Refused string `json:"refused,omitempty"`
	ByHand  string `json:"by_hand,omitempty"`
}

// Plan returns what makes the topics in actual as declared, in the order of declared. It never takes anything away:
// fewer partitions, copies or in-sync copies, shorter retention, smaller records and other rules for removing records are
// refused. So is a partition more, which moves keys, unless grow is true. Settings that are not declared, and topics
// that are not, are nobody's business here.
//
// It fails when what is declared needs more brokers than there are.
func Plan(declared []Topic, actual Cluster, grow bool) ([]Change, error) {
	var changes []Change
	var tooFew []string
	copies := 0
	for _, t := range declared {
		state, there := actual.Topics[t.Name]
		more := 0
		if !there {
			changes = append(changes, Change{Topic: t.Name, Kind: ChangeCreate, To: shape(t)})
			more = int(t.Replication)
		} else {
			some := planReplication(t, state)
			if len(some) > 0 && some[0].Refused == "" {
				more = int(t.Replication)
			}
			changes = slices.Concat(changes, planPartitions(t, state, grow), some, planConfigs(t, state))
		}
		if more > len(actual.Brokers) {
			tooFew, copies = append(tooFew, t.Name), max(copies, more)
		}
	}
	if len(tooFew) > 0 {
		return nil, fmt.Errorf("%d copies are declared, but the cluster has %d brokers: %s",
			copies, len(actual.Brokers), strings.Join(tooFew, ", "))
	}
	return changes, nil
}

func shape(t Topic) string {
	if t.Replication == 0 {
		return fmt.Sprintf("%d partitions", t.Partitions)
	}
	return fmt.Sprintf("%d partitions, %d copies", t.Partitions, t.Replication)
}

func planPartitions(t Topic, state TopicState, grow bool) []Change {
	has := int32(len(state.Replicas))
	c := Change{Topic: t.Name, Kind: ChangePartitions, From: strconv.Itoa(int(has)), To: strconv.Itoa(int(t.Partitions))}
	switch {
	case t.Partitions == has:
		return nil
	case t.Partitions < has:
		c.Refused = "Kafka takes no partition away"
		c.ByHand = tool("topics", "--delete --topic "+t.Name) + " # with every record; then create it anew"
	case !grow:
		c.Refused = "keys would move to other partitions, and records of one key overtake each other"
		c.ByHand = tool("topics", fmt.Sprintf("--alter --topic %s --partitions %d", t.Name, t.Partitions))
	}
	return []Change{c}
}

func planReplication(t Topic, state TopicState) []Change {
	fewest, most := math.MaxInt, 0
	for _, replicas := range state.Replicas {
		fewest, most = min(fewest, len(replicas)), max(most, len(replicas))
	}
	want := int(t.Replication)
	c := Change{Topic: t.Name, Kind: ChangeReplication, To: strconv.Itoa(want)}
	switch {
	case want == 0 || len(state.Replicas) == 0 || fewest == want && most == want:
		return nil
	case most > want:
		c.From = strconv.Itoa(most)
		c.Refused = "fewer copies survive fewer failures"
		c.ByHand = fmt.Sprintf("echo '%s' >fewer.json; %s", fewer(t.Name, state.Replicas, want),
			tool("reassign-partitions", "--execute --reassignment-json-file fewer.json"))
	default:
		c.From = strconv.Itoa(fewest)
	}
	return []Change{c}
}

// fewer is the reassignment, as Kafka's tool reads it, that leaves the first copies of each partition.
func fewer(topic string, replicas [][]int32, keep int) string {
	type partition struct {
		Topic     string  `json:"topic"`
		Partition int     `json:"partition"`
		Replicas  []int32 `json:"replicas"`
	}
	list := struct {
		Version    int         `json:"version"`
		Partitions []partition `json:"partitions"`
	}{Version: 1}
	for i, r := range replicas {
		list.Partitions = append(list.Partitions, partition{topic, i, r[:min(keep, len(r))]})
	}
	text, err := json.Marshal(list)
	if err != nil { // it is numbers and a name
		return err.Error()
	}
	return string(text)
}

func planConfigs(t Topic, state TopicState) []Change {
	var changes []Change
	for _, name := range slices.Sorted(maps.Keys(t.Configs)) {
		from, to := state.Configs[name], t.Configs[name]
		if sameList(from, to) {
			continue
		}
		c := Change{Topic: t.Name, Kind: ChangeConfig, Config: name, From: from, To: to, Refused: refused(name, from, to)}
		if c.Refused != "" {
			if strings.Contains(to, ",") {
				to = "[" + to + "]" // the tool's form of a list
			}
			c.ByHand = tool("configs", fmt.Sprintf("--alter --entity-type topics --entity-name %s --add-config '%s=%s'", t.Name, name, to))
		}
		changes = append(changes, c)
	}
	return changes
}

// sameList tells whether two values are the same, or lists of the same.
func sameList(a, b string) bool {
	parts := func(s string) []string {
		all := strings.Split(s, ",")
		for i := range all {
			all[i] = strings.TrimSpace(all[i])
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	return a == b || slices.Equal(parts(a), parts(b))
}

// grows are the settings that may only become larger, and what a smaller value does.
var grows = map[string]string{
	"retention.ms":        "records that are older would be deleted",
	"retention.bytes":     "records beyond that size would be deleted",
	"max.message.bytes":   "records that were taken so far would be turned away, and those behind them wait",
	"min.insync.replicas": "a record would count as sent with fewer copies",
}

// refused says why a setting is not changed from one value to the other, or nothing.
func refused(name, from, to string) string {
	reason, known := grows[name]
	if !known {
		if name == "cleanup.policy" {
			return "the other policy removes other records"
		}
		return "it is not known here whether that loses records"
	}
	was, err := strconv.ParseInt(from, 10, 64)
	will, wrong := strconv.ParseInt(to, 10, 64)
	if err != nil || wrong != nil {
		return "it is not known which of the two is more"
	}
	if strings.HasPrefix(name, "retention.") { // -1 is without limit
		was, will = unlimited(was), unlimited(will)
	}
	if will < was {
		return reason
	}
	return ""
}

func unlimited(n int64) int64 {
	if n < 0 {
		return math.MaxInt64
	}
	return n
}

// tool is a call of one of Kafka's own command line tools.
func tool(name, args string) string {
	return fmt.Sprintf("kafka-%s.sh --bootstrap-server $KAFKA_BROKERS %s", name, args)
}

// Lacks says what of the needed topics a cluster has not or has too small: with fewer partitions than declared, or
// taking only smaller records. More of either is enough.
func Lacks(needed []Topic, actual Cluster) []string {
	var lacks []string
	for _, t := range needed {
		state, there := actual.Topics[t.Name]
		if !there {
			lacks = append(lacks, t.Name+" is missing")
			continue
		}
		if has := int32(len(state.Replicas)); has < t.Partitions {
			lacks = append(lacks, fmt.Sprintf("%s has %d partitions instead of %d", t.Name, has, t.Partitions))
		}
		const size = "max.message.bytes"
		if refused(size, cmp.Or(t.Configs[size], "0"), cmp.Or(state.Configs[size], "0")) != "" {
			lacks = append(lacks, fmt.Sprintf("%s takes records of up to %s bytes instead of %s", t.Name, state.Configs[size], t.Configs[size]))
		}
	}
	return lacks
}
