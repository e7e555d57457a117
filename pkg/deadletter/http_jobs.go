package deadletter

import (
	"context"
	"encoding/base64"

	"github.com/orderflow/orderflow/pkg/deadletter/rest"
	"github.com/orderflow/orderflow/pkg/httpapi"
)

// defaultMaxFailures is how many letters of a job may fail again where nobody says.
const defaultMaxFailures = 10

// BeginJob implements POST /admin/dead-letters/jobs.
func (h handler) BeginJob(ctx context.Context, r rest.BeginJobRequestObject) (rest.BeginJobResponseObject, error) {
	b := r.Body
	by, err := who(rest.By{Actor: b.Actor, Reason: b.Reason})
	if err != nil {
		return nil, err
	}
	request := JobRequest{
		Verb: string(b.Verb), By: by,
		Filter: Filter{
			State: State(value(b.Filter.State)), Group: value(b.Filter.Group), Topic: value(b.Filter.Topic), EventType: value(b.Filter.EventType),
			ErrorType: string(value(b.Filter.ErrorType)), Cause: value(b.Filter.Cause), Key: value(b.Filter.Key), Text: value(b.Filter.Text),
			Since: value(b.Filter.Since), Until: value(b.Filter.Until),
		},
		Canary: value(b.Canary), Rate: value(b.Rate), MaxFailures: valueOr(b.MaxFailures, defaultMaxFailures), Max: valueOr(b.Max, MaxSelection),
	}
	if request.Verb == VerbDiscard && request.Canary > 0 {
		return nil, httpapi.Unprocessable("what is discarded does not fail again", httpapi.FieldError{In: "body", Path: "/canary", Detail: "must be 0 or left out with verb discard"})
	}
	if value(b.DryRun) {
		p, err := h.store.Preview(ctx, request)
		return rest.BeginJob200JSONResponse{Total: p.Total, Causes: each(p.Causes, causeBody), Letters: each(p.Letters, body)}, problem(err, "")
	}
	j, err := h.store.Begin(ctx, request)
	location := "/admin/dead-letters/jobs/" + j.ID
	return rest.BeginJob202JSONResponse{Body: jobBody(j), Headers: rest.BeginJob202ResponseHeaders{Location: &location}}, problem(err, "")
}

// GetJob implements GET /admin/dead-letters/jobs/{job}.
func (h handler) GetJob(ctx context.Context, r rest.GetJobRequestObject) (rest.GetJobResponseObject, error) {
	j, err := h.store.Job(ctx, r.Job)
	return rest.GetJob200JSONResponse(jobBody(j)), problem(err, "job "+r.Job)
}

// StopJob implements POST /admin/dead-letters/jobs/{job}/stop.
func (h handler) StopJob(ctx context.Context, r rest.StopJobRequestObject) (rest.StopJobResponseObject, error) {
	by, err := who(*r.Body)
	if err != nil {
		return nil, err
	}
	j, err := h.store.Stop(ctx, r.Job, by)
	return rest.StopJob202JSONResponse(jobBody(j)), problem(err, "job "+r.Job)
}

// ListJobs implements GET /admin/dead-letters/jobs.
func (h handler) ListJobs(ctx context.Context, r rest.ListJobsRequestObject) (rest.ListJobsResponseObject, error) {
	before, err := httpapi.After[string](jobsKind, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, defaultLimit)
	jobs, err := h.store.Jobs(ctx, before, limit+1)
	if err != nil {
		return nil, err
	}
	answer := rest.ListJobs200JSONResponse{}
	jobs, answer.Headers.Link, err = httpapi.Page(ctx, jobsKind, jobs, limit, func(j Job) string { return j.ID })
	answer.Body.Items = each(jobs, jobBody)
	return answer, err
}

// ListAudit implements GET /admin/dead-letters/audit.
func (h handler) ListAudit(ctx context.Context, r rest.ListAuditRequestObject) (rest.ListAuditResponseObject, error) {
	before, err := httpapi.After[int64](auditKind, r.Params.Cursor)
	if err != nil {
		return nil, err
	}
	limit := valueOr(r.Params.Limit, defaultLimit)
	entries, err := h.store.Audit(ctx, AuditFilter{Letter: value(r.Params.Letter), Job: value(r.Params.Job), Before: before, Limit: limit + 1})
	if err != nil {
		return nil, err
	}
	answer := rest.ListAudit200JSONResponse{}
	entries, answer.Headers.Link, err = httpapi.Page(ctx, auditKind, entries, limit, func(e Entry) int64 { return e.Seq })
	answer.Body.Items = each(entries, entryBody)
	return answer, err
}

// GetAuditEntry implements GET /admin/dead-letters/audit/{seq}.
func (h handler) GetAuditEntry(ctx context.Context, r rest.GetAuditEntryRequestObject) (rest.GetAuditEntryResponseObject, error) {
	e, err := h.store.Entry(ctx, r.Seq)
	return rest.GetAuditEntry200JSONResponse(entryBody(e)), problem(err, "such entry")
}

func jobBody(j Job) rest.Job {
	f := j.Filter
	return rest.Job{
		ID: j.ID, Verb: rest.JobVerb(j.Verb), State: rest.JobState(j.State), Actor: j.By.Actor, Reason: j.By.Reason,
		Filter: rest.Filter{
			State: optional(rest.FilterState(f.State)), Group: optional(f.Group), Topic: optional(f.Topic), EventType: optional(f.EventType),
			ErrorType: optional(rest.ErrorType(f.ErrorType)), Cause: optional(f.Cause), Key: optional(f.Key), Text: optional(f.Text),
			Since: optional(f.Since), Until: optional(f.Until),
		},
		Canary: j.Canary, Rate: j.Rate, MaxFailures: j.MaxFailures, Total: j.Total, LookedAt: j.Claimed, Taken: j.Taken,
		Settled: j.Settled, Failed: j.Failed, Detail: j.Detail, CreatedAt: j.CreatedAt, UpdatedAt: j.UpdatedAt, EndedAt: optional(j.EndedAt),
	}
}

func entryBody(e Entry) rest.AuditEntry {
	b := rest.AuditEntry{
		Seq: e.Seq, At: e.At, Actor: e.Actor, Verb: rest.AuditEntryVerb(e.Verb), Reason: e.Reason,
		Letter: optional(e.Letter), Job: optional(e.Job), Detail: optional(e.Detail),
		FailedAt: optional(e.FailedAt), Error: optional(e.Error), Retries: optional(e.Retries),
	}
	if e.Before != nil {
		encoded := base64.StdEncoding.EncodeToString(e.Before)
		b.BeforeBase64 = &encoded
	}
	return b
}
