package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/IBM/sarama"
)

const (
	// rebalanceSlack is what the cluster gives a member beyond its drain to commit and to join again.
	rebalanceSlack = 10 * time.Second

	rejoinInitial = 200 * time.Millisecond
	rejoinMax     = 5 * time.Second
)

// member is one member of a consumer group: in it, or on the way back into it.
type member struct {
	brokers  []string
	name     string
	topics   []string
	settings *sarama.Config
	logger   *slog.Logger

	joined  atomic.Bool
	trouble atomic.Pointer[string]
	group   atomic.Pointer[sarama.ConsumerGroup]
	client  atomic.Pointer[sarama.Client]
	// id is what the cluster called the member in its last session, empty before the first.
	id string
}

// groupSettings sets in s what every member wants.
func groupSettings(s *sarama.Config, instanceID string, session, drain time.Duration) {
	s.Consumer.Return.Errors = true
	s.Consumer.Group.InstanceId = instanceID
	// Heartbeats run beside the handlers, so a handler may take as long as it likes; the interval is also how soon a
	// rebalance is noticed.
	s.Consumer.Group.Session.Timeout = session
	s.Consumer.Group.Heartbeat.Interval = min(session/5, time.Second)
	// A partition that is taken away must be given up within this, or the member is thrown out of the group. Joining
	// waits for the slowest member that long, and the connection must outwait it.
	s.Consumer.Group.Rebalance.Timeout = drain + rebalanceSlack
	s.Net.ReadTimeout = s.Consumer.Group.Rebalance.Timeout + 5*time.Second
	// The loop around Consume has its own backoff, and Joined should soon tell that the cluster is away.
	s.Metadata.Retry.Max = 3
}

// run is the member's life until ctx ends. handler is asked for one before every session.
func (m *member) run(ctx context.Context, handler func() sarama.ConsumerGroupHandler) {
	var group sarama.ConsumerGroup
	backoff, last := rejoinInitial, ""
	for ctx.Err() == nil {
		var err error
		if group == nil {
			group, err = m.open()
		}
		watched := &membership{ConsumerGroupHandler: handler(), member: m}
		if group != nil {
			// Consume returns when the session ends, also because the coordinator is away.
			err = group.Consume(ctx, m.topics, watched)
		}
		if ctx.Err() != nil {
			break
		}
		if watched.joined {
			backoff, last = rejoinInitial, ""
		}
		if cause := fmt.Sprint(err); cause != last {
			last = cause
			m.logger.Warn("not a member of the consumer group, trying again", "topics", m.topics, "error", err)
			m.trouble.Store(&cause)
		}
		wait(ctx, backoff)
		backoff = min(2*backoff, rejoinMax)
	}
	if group != nil {
		if err := errors.Join(group.Close(), m.leave(), (*m.client.Load()).Close()); err != nil {
			m.logger.Warn("the consumer group was not left cleanly", "error", err)
		}
	}
}

// leave takes a static member out of its group, so that others have its partitions now and not when its session has run
// out. sarama does that for the others only, for static members were thought to come back. With the member's id beside
// its name, it is nobody else who is taken out if another process has the name by now.
func (m *member) leave() error {
	name := m.settings.Consumer.Group.InstanceId
	if name == "" || m.id == "" {
		return nil
	}
	coordinator, err := (*m.client.Load()).Coordinator(m.name)
	if err != nil {
		return err
	}
	reason := "the consumer is being closed"
	response, err := coordinator.LeaveGroup(&sarama.LeaveGroupRequest{
		Version: 5, GroupId: m.name, Members: []sarama.MemberIdentity{{MemberId: m.id, GroupInstanceId: &name, Reason: &reason}},
	})
	if err != nil {
		return err
	}
	if errors.Is(response.Err, sarama.ErrNoError) && len(response.Members) == 1 {
		response.Err = response.Members[0].Err
	}
	if !errors.Is(response.Err, sarama.ErrNoError) {
		return response.Err
	}
	return nil
}

// open makes the group's client, which needs a broker that answers.
func (m *member) open() (sarama.ConsumerGroup, error) {
	client, err := sarama.NewClient(m.brokers, m.settings)
	if err != nil {
		return nil, err
	}
	group, err := sarama.NewConsumerGroupFromClient(m.name, client)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	m.client.Store(&client)
	m.group.Store(&group)
	go func() {
		last := ""
		for err := range group.Errors() {
			// A broker that is away says so again and again, once a partition.
			if text := err.Error(); text != last {
				last = text
				m.logger.Warn("consuming from Kafka", "error", err)
			}
		}
	}()
	return group, nil
}

// commit commits one partition's offset as the session's member and waits for the cluster to have it.
func (m *member) commit(sess sarama.ConsumerGroupSession, topic string, partition int32, next int64) error {
	client := *m.client.Load()
	coordinator, err := client.Coordinator(m.name)
	if err != nil {
		return classify("find the coordinator of "+m.name, err)
	}
	request := &sarama.OffsetCommitRequest{
		Version: 7, ConsumerGroup: m.name, ConsumerGroupGeneration: sess.GenerationID(), ConsumerID: sess.MemberID(),
	}
	if id := m.settings.Consumer.Group.InstanceId; id != "" {
		request.GroupInstanceId = &id
	}
	request.AddBlock(topic, partition, next, 0, "")
	response, err := coordinator.CommitOffset(request)
	if err == nil {
		code, answered := response.Errors[topic][partition]
		if answered && errors.Is(code, sarama.ErrNoError) {
			return nil
		}
		if err = code; !answered {
			err = sarama.ErrIncompleteResponse
		}
	} else {
		_ = coordinator.Close() // the connection is of no more use
	}
	// It may have moved, or be away.
	return errors.Join(classify("commit an offset of "+topic, err), client.RefreshCoordinator(m.name))
}

// Joined tells whether the process is a member of its group with a session running.
func (m *member) Joined() bool { return m.joined.Load() }

// Trouble says why the process is not a member of its group, as far as is known; nil while it is one.
func (m *member) Trouble() error {
	if m.Joined() {
		return nil
	}
	if cause := m.trouble.Load(); cause != nil {
		return fmt.Errorf("not a member of consumer group %s: %s", m.name, *cause)
	}
	return fmt.Errorf("not a member of consumer group %s yet", m.name)
}

// membership is one session, from joining to leaving, as the member sees it.
type membership struct {
	sarama.ConsumerGroupHandler
	member *member
	joined bool
}

// Setup implements sarama.ConsumerGroupHandler.
func (s *membership) Setup(sess sarama.ConsumerGroupSession) error {
	s.joined = true
	s.member.id = sess.MemberID()
	s.member.joined.Store(true)
	// The session may end long before Cleanup, which waits for the claims.
	context.AfterFunc(sess.Context(), func() { s.member.joined.Store(false) })
	s.member.logger.Info("joined the consumer group", "member", sess.MemberID(), "generation", sess.GenerationID())
	return s.ConsumerGroupHandler.Setup(sess)
}

// Cleanup implements sarama.ConsumerGroupHandler. sarama commits what was marked after it.
func (s *membership) Cleanup(sess sarama.ConsumerGroupSession) error {
	s.member.joined.Store(false)
	return s.ConsumerGroupHandler.Cleanup(sess)
}
