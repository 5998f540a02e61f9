package api

import (
	"net/http"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

// tuningRoutes is fine-tuning, under both of its names: OpenAI's, and the one that
// the platform's own documents began with.
func (s *server) tuningRoutes() []rest.Route[caller] {
	var all []rest.Route[caller]
	for _, at := range []string{"/v1/fine_tuning/jobs", "/v1/fine-tuning/jobs"} {
		all = append(all, []rest.Route[caller]{
			{
				Method: http.MethodPost, Path: at, Scope: catalog.ScopeFineTuning, Once: true,
				Summary:  "Begin a fine-tuning job: the files are validated, then a model of the tenant's own is made.",
				Endpoint: rest.Raw[jobBody, fineTuningJob](s.createJob),
			},
			{
				Method: http.MethodGet, Path: at, Scope: catalog.ScopeFineTuning,
				Query:    append([]rest.Query{{Name: "metadata[name]", Type: "string", Summary: "Of this metadata alone."}}, rest.Paging...),
				Summary:  "List fine-tuning jobs, newest first.",
				Endpoint: rest.Give(s.jobs),
			},
			{
				Method: http.MethodGet, Path: at + "/{id}", Scope: catalog.ScopeFineTuning,
				Summary:  "Show a fine-tuning job.",
				Endpoint: rest.Give(s.job),
			},
			{
				Method: http.MethodPost, Path: at + "/{id}/cancel", Scope: catalog.ScopeFineTuning,
				Summary:  "Cancel a job that hasn't ended: no model will come of it.",
				Endpoint: rest.Give(s.cancelJob),
			},
			{
				Method: http.MethodGet, Path: at + "/{id}/events", Scope: catalog.ScopeFineTuning, Query: rest.Paging,
				Summary:  "List what happened in a job, newest first.",
				Endpoint: rest.Give(s.jobEvents),
			},
			{
				Method: http.MethodGet, Path: at + "/{id}/checkpoints", Scope: catalog.ScopeFineTuning, Query: rest.Paging,
				Summary:  "List the steps of a job with their metrics, newest first.",
				Endpoint: rest.Give(s.jobCheckpoints),
			},
		}...)
	}
	return all
}
