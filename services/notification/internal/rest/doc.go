// Package rest serves the notification service's API: lists from the database, and event streams from the feed.
package rest
