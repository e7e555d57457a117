package app_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/orderflow/orderflow/pkg/consumer"
	"github.com/orderflow/orderflow/pkg/database/databasetest"
	"github.com/orderflow/orderflow/pkg/fault"
	"github.com/orderflow/orderflow/pkg/parking/rest"
	"github.com/orderflow/orderflow/pkg/testkit"
)

type parkedKeys struct{ Items []rest.Key }

// parkedTwo is a service with two keys that wait: blocked behind its dead letter, which is returned, retrying for an hour.
func parkedTwo(t *testing.T, url string) (*testkit.Service, letter) {
	t.Helper()
	a := newFailing(consumer.Blocks)
	a.fail("blocked", 1, fault.Permanentf("never"))
	a.fail("retrying", 1, errors.New("not now"))
	s := testkit.Start(t, topics("adder"))
	svc := testkit.Run(s, "adder", a.run, "DATABASE_URL="+url, "CONSUMER_BACKOFF_INITIAL=1h", "CONSUMER_BACKOFF_MAX=1h")
	for _, key := range []string{"blocked", "retrying"} {
		s.Send("/test", key, numberGiven{N: 1})
		testkit.Until(s, "it is parked", func() bool {
			var found parkedKeys
			svc.Get("/admin/parked?key="+key, &found)
			return len(found.Items) == 1 && string(found.Items[0].State) == key
		})
		s.Send("/test", key, numberGiven{N: 2})
		testkit.Until(s, "the next waits behind it", func() bool {
			var found parkedKeys
			svc.Get("/admin/parked?key="+key, &found)
			return len(found.Items) == 1 && found.Items[0].Messages == 2
		})
	}
	return svc, awaitLetters(svc, waiting)
}

func keys(all []rest.Key) (keys []string) {
	for _, k := range all {
		keys = append(keys, k.Key)
	}
	return keys
}

// TestParkedKeysAreListed: an operator sees which keys wait and for what, by every filter and page by page; what the
// letter's verbs let go is no longer there.
func TestParkedKeysAreListed(t *testing.T) {
	t.Parallel()
	databasetest.Each(t, func(t *testing.T, url string) {
		svc, l := parkedTwo(t, url)
		var all parkedKeys
		require.Equal(t, http.StatusOK, svc.Get("/admin/parked", &all))
		require.Equal(t, []string{"blocked", "retrying"}, keys(all.Items), "those that wait longest first")
		blocked, retrying := all.Items[0], all.Items[1]
		require.Equal(t, l.ID, *blocked.Letter)
		require.Equal(t, l.ID, blocked.First)
		require.Nil(t, blocked.NextAttempt)
		require.Nil(t, retrying.Letter)
		require.Equal(t, 1, retrying.Attempts)
		require.Greater(t, time.Until(*retrying.NextAttempt), 20*time.Minute)
		require.EqualValues(t, 2*len(`{"n":1}`), retrying.Bytes)
		for query, want := range map[string][]string{
			"state=blocked": {"blocked"}, "state=retrying": {"retrying"}, "state=queued": nil, "key=retrying": {"retrying"}, "key=blocked&state=retrying": nil,
			"group=adder&topic=numbers&limit=500": {"blocked", "retrying"}, "group=another": nil, "topic=another": nil,
		} {
			var found parkedKeys
			require.Equal(t, http.StatusOK, svc.Get("/admin/parked?"+query, &found), query)
			require.Equal(t, want, keys(found.Items), query)
		}
		var told []string
		for path := "/admin/parked?limit=1&group=adder"; path != ""; {
			resp, err := http.Get(svc.URL + path)
			require.NoError(t, err)
			var page parkedKeys
			require.NoError(t, json.NewDecoder(resp.Body).Decode(&page))
			require.NoError(t, resp.Body.Close())
			told = append(told, keys(page.Items)...)
			path = ""
			if next := regexp.MustCompile(`<([^>]*)>; rel="next"`).FindStringSubmatch(resp.Header.Get("Link")); next != nil {
				path = next[1]
			}
		}
		require.Equal(t, []string{"blocked", "retrying"}, told)

		var shown rest.KeyDetail
		require.Equal(t, http.StatusOK, svc.Get("/admin/parked/"+l.ID, &shown))
		require.Equal(t, "blocked", shown.Key)
		require.Len(t, shown.Waiting, 2)
		require.True(t, shown.Waiting[0].Blocks)
		require.Equal(t, "number.given", shown.Waiting[1].EventType)

		press(t, svc, l.ID, "discard", http.StatusOK)
		testkit.Eventually(svc, "/admin/parked", func(p parkedKeys) bool { return len(p.Items) == 1 && p.Items[0].Key == "retrying" })
		require.Equal(t, http.StatusNotFound, svc.Get("/admin/parked/"+l.ID, nil))
	})
}

// TestBadFiltersOfParkedKeys: what is asked wrongly is named with what is allowed.
func TestBadFiltersOfParkedKeys(t *testing.T) {
	t.Parallel()
	_, svc := start(t, &adder{})
	for path, says := range map[string]string{
		"?state=stuck":                         "query state: must be one of blocked, retrying, queued",
		"?limit=0":                             "query limit: must be at least 1",
		"?limit=501":                           "query limit: must be at most 500",
		"?limit=all":                           "query limit: must be",
		"?group=":                              "query group: must",
		"?topic=" + strings.Repeat("t", 250):   "query topic: must have at most 249 characters",
		"?key=%ff":                             "query key: must be UTF-8 without the NUL character",
		"?key=" + strings.Repeat("k", 4097):    "query key: must have at most 4096 characters",
		"?cursor=nonsense":                     "query cursor: must be taken as it is from the Link header",
		"?cursor=" + strings.Repeat("A", 1025): "query cursor: must have at most 1024 characters",
		"/" + strings.Repeat("x", 301):         "path id: must have at most 300 characters",
	} {
		resp, err := http.Get(svc.URL + "/admin/parked" + path)
		require.NoError(t, err)
		var p struct {
			Status int
			Errors []struct{ In, Path, Detail string }
		}
		require.NoError(t, json.NewDecoder(resp.Body).Decode(&p))
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusBadRequest, p.Status, says)
		require.Len(t, p.Errors, 1, says)
		require.Contains(t, fmt.Sprintf("%s %s: %s", p.Errors[0].In, p.Errors[0].Path, p.Errors[0].Detail), says)
	}
	require.Equal(t, http.StatusNotFound, svc.Get("/admin/parked/numbers-0-1", nil))
}
