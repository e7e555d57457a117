package client

import (
	"context"
	"fmt"

	letters "github.com/orderflow/orderflow/pkg/deadletter/rest"
)

// PreviewJob tells what a job on a service's dead letters would take; nothing is changed.
func (s *System) PreviewJob(ctx context.Context, service string, r letters.JobRequest) (letters.JobPreview, error) {
	dry := true
	r.DryRun = &dry
	a, err := s.beginJob(ctx, service, r)
	if err != nil {
		return letters.JobPreview{}, err
	}
	return answered("try a "+string(r.Verb)+" of "+service, a.JSON200, a.HTTPResponse, a.Body)
}

// BeginJob has a service do a verb to all its dead letters that match now.
func (s *System) BeginJob(ctx context.Context, service string, r letters.JobRequest) (letters.Job, error) {
	a, err := s.beginJob(ctx, service, r)
	if err != nil {
		return letters.Job{}, err
	}
	return answered("begin a "+string(r.Verb)+" of "+service, a.JSON202, a.HTTPResponse, a.Body)
}

func (s *System) beginJob(ctx context.Context, service string, r letters.JobRequest) (*letters.BeginJobResponse, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return nil, err
	}
	a, err := c.BeginJobWithResponse(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("begin a %s of %s: %w", r.Verb, service, err)
	}
	return a, nil
}

// Job reads how far a job is.
func (s *System) Job(ctx context.Context, service, id string) (letters.Job, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.Job{}, err
	}
	a, err := c.GetJobWithResponse(ctx, id)
	if err != nil {
		return letters.Job{}, fmt.Errorf("read job %s of %s: %w", id, service, err)
	}
	return answered("read job "+id+" of "+service, a.JSON200, a.HTTPResponse, a.Body)
}

// Jobs lists a service's last jobs, the last begun first.
func (s *System) Jobs(ctx context.Context, service string, limit int) ([]letters.Job, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return nil, err
	}
	a, err := c.ListJobsWithResponse(ctx, &letters.ListJobsParams{Limit: &limit})
	if err != nil {
		return nil, fmt.Errorf("list the jobs of %s: %w", service, err)
	}
	found, err := answered("list the jobs of "+service, a.JSON200, a.HTTPResponse, a.Body)
	return found.Items, err
}

// StopJob has a job take no more dead letters.
func (s *System) StopJob(ctx context.Context, service, id string, by By) (letters.Job, error) {
	c, err := s.lettersOf(service)
	if err != nil {
		return letters.Job{}, err
	}
	a, err := c.StopJobWithResponse(ctx, id, letters.By(by))
	if err != nil {
		return letters.Job{}, fmt.Errorf("stop job %s of %s: %w", id, service, err)
	}
	return answered("stop job "+id+" of "+service, a.JSON202, a.HTTPResponse, a.Body)
}
