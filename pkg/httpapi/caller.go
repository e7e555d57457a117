package httpapi

import (
	"context"
	"net/http"
)

// CallerKind is what a caller may be.
type CallerKind string

// The kinds of callers: a customer sees what is theirs, an operator uses the admin verbs, a service is another part of
// the system.
const (
	Customer CallerKind = "customer"
	Operator CallerKind = "operator"
	Service  CallerKind = "service"
)

// Caller is who makes a request.
type Caller struct {
	Kind CallerKind
	ID   string
}

// String is the caller's name in logs and the client of its idempotency keys.
func (c Caller) String() string { return string(c.Kind) + ":" + c.ID }

// Owns reports whether c may see and change what belongs to the customer.
func (c Caller) Owns(customerID string) bool { return c.Kind != Customer || c.ID == customerID }

// RequireStaff refuses customers with a 403 problem: for what is not any one customer's.
func RequireStaff(ctx context.Context) error {
	if CallerFrom(ctx).Kind == Customer {
		return NewProblem(http.StatusForbidden, "this is not for customers")
	}
	return nil
}

// StaffOnly is RequireStaff as a middleware.
func StaffOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := RequireStaff(r.Context()); err != nil {
			Write(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Trusted is the caller while nobody is asked who they are: allowed everything.
var Trusted = Caller{Kind: Service, ID: "trusted"}

type callerKey struct{}

// WithCaller returns a context whose caller is c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller set by WithCaller. Without one it is a customer with no name, who owns nothing: code
// that is reached by a way around the router is not trusted by accident.
func CallerFrom(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Caller{Kind: Customer}
}
