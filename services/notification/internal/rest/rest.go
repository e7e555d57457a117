package rest

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/go-chi/chi/v5"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
	"github.com/orderflow/orderflow/pkg/database"
	"github.com/orderflow/orderflow/pkg/feed"
	"github.com/orderflow/orderflow/pkg/httpapi"
	"github.com/orderflow/orderflow/services/notification/internal/fanout"
	"github.com/orderflow/orderflow/services/notification/internal/store"
)

const (
	listKind     = "notifications/1"
	defaultLimit = 20
)

// Server answers the API.
type Server struct {
	DB  *database.DB
	Hub *feed.Hub
	// Heartbeat is how often an event stream says that it is alive.
	Heartbeat time.Duration
	// Channels are the delivery channels that are on.
	Channels []string
	Logger   *slog.Logger
}

// Mount adds the API to r.
func Mount(r chi.Router, s Server) error {
	spec, err := notificationapi.GetSpec()
	if err != nil {
		return fmt.Errorf("notification API: %w", err)
	}
	strict := notificationapi.NewStrictHandlerWithOptions(lists{s}, nil, notificationapi.StrictHTTPServerOptions{
		RequestErrorHandlerFunc: httpapi.WriteRequestError, ResponseErrorHandlerFunc: httpapi.Write,
	})
	httpapi.Mount(r, spec, httpapi.MountOptions{}, func(r chi.Router) {
		notificationapi.HandlerWithOptions(withStream{strict, s}, notificationapi.ChiServerOptions{
			BaseRouter: r, ErrorHandlerFunc: httpapi.WriteRequestError,
		})
	})
	return nil
}

// withStream is the generated server but for the event stream, which writes as it goes.
type withStream struct {
	notificationapi.ServerInterface
	server Server
}

// StreamNotifications implements notificationapi.ServerInterface.
func (w withStream) StreamNotifications(rw http.ResponseWriter, r *http.Request, customer notificationapi.CustomerID, _ notificationapi.StreamNotificationsParams) {
	w.server.stream(rw, r, customer)
}

type lists struct{ Server }

// theirs refuses what is another customer's as if it were not there.
func theirs(ctx context.Context, customer string) error {
	if !httpapi.CallerFrom(ctx).Owns(customer) {
		return httpapi.NotFound("there is no customer %s", customer)
	}
	return nil
}

// place is where a page ends.
type place struct {
	Before int64 `json:"before"`
}

// ListNotifications implements notificationapi.StrictServerInterface.
func (l lists) ListNotifications(ctx context.Context, r notificationapi.ListNotificationsRequestObject) (notificationapi.ListNotificationsResponseObject, error) {
	if err := theirs(ctx, r.CustomerID); err != nil {
		return nil, err
	}
	limit, from := defaultLimit, place{}
	if r.Params.Limit != nil {
		limit = *r.Params.Limit
	}
	if r.Params.Cursor != nil {
		var err error
		if from, err = httpapi.DecodeCursor[place](listKind, *r.Params.Cursor); err != nil {
			return nil, err
		}
	}
	// One more than shown tells whether there is a next page.
	found, err := store.List(ctx, l.DB, r.CustomerID, from.Before, limit+1)
	if err != nil {
		return nil, err
	}
	answer := notificationapi.ListNotifications200JSONResponse{}
	if len(found) > limit {
		found = found[:limit]
		cursor, err := httpapi.EncodeCursor(listKind, place{Before: found[limit-1].Number})
		if err != nil {
			return nil, err
		}
		answer.Body.NextCursor = &cursor
		link := httpapi.NextLink(ctx, cursor)
		answer.Headers.Link = &link
	}
	answer.Body.Items = make([]notificationapi.Notification, len(found))
	for i, n := range found {
		answer.Body.Items[i] = fanout.View(n)
	}
	return answer, nil
}

// GetDeliveryTotals implements notificationapi.StrictServerInterface.
func (l lists) GetDeliveryTotals(ctx context.Context, _ notificationapi.GetDeliveryTotalsRequestObject) (notificationapi.GetDeliveryTotalsResponseObject, error) {
	totals, err := store.Count(ctx, l.DB)
	if err != nil {
		return nil, err
	}
	answer := notificationapi.GetDeliveryTotals200JSONResponse{
		Notifications: totals.Notifications, Channels: []notificationapi.ChannelTotals{},
	}
	for _, name := range l.Channels {
		if totals.Channels[name] == nil {
			totals.Channels[name] = map[store.State]int64{}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(totals.Channels)) {
		n := totals.Channels[name]
		answer.Channels = append(answer.Channels, notificationapi.ChannelTotals{
			Channel: name, Waiting: n[store.Waiting], Delivered: n[store.Delivered], Failed: n[store.Failed],
		})
	}
	return answer, nil
}

// StreamNotifications implements notificationapi.StrictServerInterface; withStream stands before it.
func (lists) StreamNotifications(context.Context, notificationapi.StreamNotificationsRequestObject) (notificationapi.StreamNotificationsResponseObject, error) {
	return nil, httpapi.NotFound("nothing is served here")
}
