package client

import (
	"context"
	"fmt"
	"slices"
	"time"

	notificationapi "github.com/orderflow/orderflow/api/rest/notification"
)

// AllNotifications lists what a customer was told, the newest first.
func (s *System) AllNotifications(ctx context.Context, customer string) (all []notificationapi.Notification, err error) {
	return all, s.notifications(ctx, customer, func(page []notificationapi.Notification) (more bool) {
		all = append(all, page...)
		return true
	})
}

// NotificationsOf lists what a customer was told of an order that was placed at an instant, the newest first.
func (s *System) NotificationsOf(ctx context.Context, customer, order string, placed time.Time) (all []notificationapi.Notification, err error) {
	return all, s.notifications(ctx, customer, func(page []notificationapi.Notification) (more bool) {
		for _, n := range page {
			if n.OrderID == order {
				all = append(all, n)
			}
		}
		// A page that is all of the time before tells that there is no more.
		return slices.ContainsFunc(page, func(n notificationapi.Notification) bool { return !n.At.Before(placed) })
	})
}

// notifications hands over what a customer was told, page by page, until there is no more or nobody wants it.
func (s *System) notifications(ctx context.Context, customer string, page func([]notificationapi.Notification) (more bool)) error {
	limit, what := pageSize, "list the notifications of "+customer
	params := &notificationapi.ListNotificationsParams{Limit: &limit}
	for {
		a, err := s.Notifications.ListNotificationsWithResponse(ctx, customer, params)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		list, err := answered(what, a.JSON200, a.HTTPResponse, a.Body)
		if err != nil {
			return err
		}
		if !page(list.Items) || list.NextCursor == nil {
			return nil
		}
		params.Cursor = list.NextCursor
	}
}
