package kafka_test

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	ceclient "github.com/cloudevents/sdk-go/protocol/kafka_sarama/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	cloudevent "github.com/cloudevents/sdk-go/v2/event"
	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/event"
	"github.com/orderflow/orderflow/pkg/kafka"
)

var garbage = string([]byte{0, 255, 254, '\n'})

// Whatever stands in a topic reaches the channel and stops nothing; and what goes to a dead-letter topic is the same.
func TestAnyRecordComesThrough(t *testing.T) {
	t.Parallel()
	_, cfg := broker(t, 1, "topic", "copies")
	client, err := sarama.NewClient(cfg.Brokers, cfg.Sarama())
	require.NoError(t, err)
	defer func() { require.NoError(t, client.Close()) }()
	raw, err := sarama.NewSyncProducerFromClient(client)
	require.NoError(t, err)
	defer func() { require.NoError(t, raw.Close()) }()
	records := []*sarama.ProducerMessage{
		{Topic: "topic"},
		{Topic: "topic", Value: sarama.ByteEncoder{}, Key: sarama.ByteEncoder{}},
		{Topic: "topic", Value: sarama.StringEncoder(garbage), Key: sarama.StringEncoder(garbage), Headers: []sarama.RecordHeader{
			// A header's name may be empty, but not null: Apache Kafka refuses that, and kfake does not.
			{Key: []byte{}}, {Key: []byte("nil")}, {Key: []byte(garbage), Value: []byte(garbage)}, {Key: []byte{}, Value: []byte("no name")},
			{Key: []byte("twice"), Value: []byte("1")}, {Key: []byte("twice"), Value: []byte("2")},
			{Key: []byte("ce_id"), Value: nil}, {Key: []byte("_kafka_offset"), Value: []byte("forged")},
		}},
	}
	require.NoError(t, raw.SendMessages(records))
	p := publisher(t, cfg)
	send(t, p, addressed("topic", "k", 1))

	s := subscriber(t, kafka.SubscriberConfig{Config: cfg, Topics: []string{"topic", "copies"}})
	messages, copies := subscribe(t, s, "topic"), subscribe(t, s, "copies")
	got := map[int64]kafka.Record{}
	for range 4 {
		m := receive(t, messages)
		r, ok := kafka.RecordOf(m)
		require.True(t, ok)
		require.NotEmpty(t, m.UUID)
		got[r.Offset] = r
		m.Ack()
	}
	require.Nil(t, got[0].Key)
	require.Nil(t, got[0].Value)
	require.NotNil(t, got[1].Key, "an empty key is a key")
	require.Empty(t, got[1].Key)
	require.Equal(t, []byte(garbage), got[2].Key)
	require.Equal(t, []byte(garbage), got[2].Value)
	require.Equal(t, map[string]string{"": "no name", "nil": "", garbage: garbage, "twice": "2", "ce_id": ""}, got[2].Headers)
	require.Equal(t, "topic", got[2].Topic)
	require.WithinDuration(t, time.Now(), got[2].Timestamp, time.Minute)
	require.Equal(t, "k-1", got[3].Headers[event.HeaderID])

	for offset := range int64(4) {
		r := got[offset]
		r.Topic = "copies"
		require.NoError(t, p.SendRecord(t.Context(), r))
		m := receive(t, copies)
		again, ok := kafka.RecordOf(m)
		require.True(t, ok)
		require.Equal(t, r.Key, again.Key)
		require.Equal(t, r.Value, again.Value)
		require.Equal(t, r.Headers, again.Headers)
		m.Ack()
	}
}

func TestMarshalAndBack(t *testing.T) {
	t.Parallel()
	m := addressed("topic", "k", 1).Event.Message()
	m.Metadata["_kafka_topic"] = "elsewhere"
	sent, err := kafka.Marshaler{}.Marshal("topic", m)
	require.NoError(t, err)
	key, err := sent.Key.Encode()
	require.NoError(t, err)
	require.Equal(t, "k", string(key))
	back, err := kafka.Marshaler{}.Unmarshal(received(t, sent))
	require.NoError(t, err)
	require.Equal(t, m.UUID, back.UUID)
	e, err := event.FromMessage(back)
	require.NoError(t, err)
	r, ok := kafka.RecordOf(back)
	require.True(t, ok)
	require.Equal(t, "topic", r.Topic)
	require.Equal(t, addressed("topic", "k", 1).Event.Headers(), r.Headers)
	require.Equal(t, "k-1", e.ID)
	_, ok = kafka.RecordOf(m)
	require.False(t, ok)
}

// Nil headers do not occur on the wire, but a client could hand them over.
func TestUnmarshalToleratesNilHeaders(t *testing.T) {
	t.Parallel()
	m, err := kafka.Marshaler{}.Unmarshal(&sarama.ConsumerMessage{Topic: "t", Partition: 1, Offset: 2, Headers: []*sarama.RecordHeader{nil, {}}})
	require.NoError(t, err)
	require.Equal(t, "t/1/2", m.UUID)
}

func received(t *testing.T, m *sarama.ProducerMessage) *sarama.ConsumerMessage {
	t.Helper()
	r := &sarama.ConsumerMessage{Topic: m.Topic, Timestamp: time.Now()}
	var err error
	r.Key, err = m.Key.Encode()
	require.NoError(t, err)
	r.Value, err = m.Value.Encode()
	require.NoError(t, err)
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, &h)
	}
	return r
}

// The CloudEvents SDK reads what we write, and we read what it writes.
func TestCloudEvents(t *testing.T) {
	t.Parallel()
	ours := addressed("topic", "k", 1).Event
	ours.CorrelationID, ours.CausationID = "story", "cause"
	ours.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	sent, err := kafka.Marshaler{}.Marshal("topic", ours.Message())
	require.NoError(t, err)
	theirs, err := binding.ToEvent(t.Context(), ceclient.NewMessageFromConsumerMessage(received(t, sent)))
	require.NoError(t, err)
	require.NoError(t, theirs.Validate())
	require.Equal(t, "1.0", theirs.SpecVersion())
	require.Equal(t, ours.ID, theirs.ID())
	require.Equal(t, ours.Type, theirs.Type())
	require.Equal(t, ours.Source, theirs.Source())
	require.Equal(t, ours.Subject, theirs.Subject())
	require.True(t, ours.Time.Equal(theirs.Time()))
	require.Equal(t, "application/json", theirs.DataContentType())
	require.JSONEq(t, string(ours.Data), string(theirs.Data()))
	require.Subset(t, theirs.Extensions(), map[string]any{"partitionkey": "k", "correlationid": "story", "causationid": "cause"})

	e := cloudevent.New()
	e.SetID("id")
	e.SetType("type")
	e.SetSource("/source")
	e.SetSubject("subject")
	e.SetTime(ours.Time)
	e.SetExtension("partitionkey", "k")
	require.NoError(t, e.SetData("application/json", map[string]int{"n": 1}))
	written := &sarama.ProducerMessage{Topic: "topic", Key: sarama.StringEncoder("k")}
	require.NoError(t, ceclient.WriteProducerMessage(t.Context(), binding.ToMessage(&e), written))
	back, err := kafka.Marshaler{}.Unmarshal(received(t, written))
	require.NoError(t, err)
	r, ok := kafka.RecordOf(back)
	require.True(t, ok)
	got, err := event.FromHeaders(r.Headers, r.Value)
	require.NoError(t, err)
	require.Equal(t, event.Event{
		ID: "id", Type: "type", Source: "/source", Subject: "subject", Key: "k", Time: ours.Time, Data: []byte(`{"n":1}`),
	}, got)
}

func FuzzUnmarshal(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), []byte("ce_id"), []byte("1"))
	f.Fuzz(func(t *testing.T, key, value, name, header []byte) {
		m, err := kafka.Marshaler{}.Unmarshal(&sarama.ConsumerMessage{
			Topic: "t", Key: key, Value: value, Headers: []*sarama.RecordHeader{{Key: name, Value: header}},
		})
		require.NoError(t, err)
		r, ok := kafka.RecordOf(m)
		require.True(t, ok)
		require.Equal(t, key, r.Key)
		require.Equal(t, value, r.Value)
		_, _ = event.FromMessage(m)
	})
}
