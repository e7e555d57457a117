package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind is what an error says about trying again.
type Kind int

const (
	// Transient: the same call may work later. It is also what an error means that says nothing of itself.
	Transient Kind = iota
	// Permanent: the same call will fail in the same way however often it is made.
	Permanent
	// Unavailable: the infrastructure is gone (database, broker, Redis, or this process is stopping).
	// It says nothing about the message or request at hand.
	Unavailable
)

// String is the kind's name as dead letters, logs and metrics carry it.
func (k Kind) String() string {
	switch k {
	case Permanent:
		return "permanent"
	case Unavailable:
		return "unavailable"
	default:
		return "transient"
	}
}

type classified struct {
	kind Kind
	err  error
}

func (c *classified) Error() string { return c.err.Error() }
func (c *classified) Unwrap() error { return c.err }

func as(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &classified{kind: kind, err: err}
}

// AsPermanent marks err as Permanent; nil stays nil.
func AsPermanent(err error) error { return as(Permanent, err) }

// AsTransient marks err as Transient; nil stays nil.
func AsTransient(err error) error { return as(Transient, err) }

// AsUnavailable marks err as Unavailable; nil stays nil.
func AsUnavailable(err error) error { return as(Unavailable, err) }

// Permanentf is fmt.Errorf marked Permanent.
func Permanentf(format string, args ...any) error {
	return AsPermanent(fmt.Errorf(format, args...))
}

// Transientf is fmt.Errorf marked Transient.
func Transientf(format string, args ...any) error {
	return AsTransient(fmt.Errorf(format, args...))
}

// Unavailablef is fmt.Errorf marked Unavailable.
func Unavailablef(format string, args ...any) error {
	return AsUnavailable(fmt.Errorf(format, args...))
}

// KindOf returns the outermost mark on err. A cancelled context without a mark is Unavailable, because the process
// is stopping; an exceeded deadline, like anything else without a mark, is Transient.
func KindOf(err error) Kind {
	var c *classified
	if errors.As(err, &c) {
		return c.kind
	}
	if errors.Is(err, context.Canceled) {
		return Unavailable
	}
	return Transient
}
