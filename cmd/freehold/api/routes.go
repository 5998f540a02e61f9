package api

import (
	"net/http"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/inference"
	"freehold/inference/engine"
)

// engineTime bounds a request that needs an engine. It is a backstop: how long an
// answer, or a pause in a stream, may take is the engine's own setting.
const engineTime = time.Hour

// routes is the tenants' API: each route with the scope that it needs.
func (s *server) routes() []rest.Route[caller] {
	return []rest.Route[caller]{
		{
			Method: http.MethodPost, Path: "/v1/chat/completions", Scope: catalog.ScopeInference, Timeout: engineTime, Once: true,
			Summary:  "Answer a conversation, whole or as a stream of events.",
			Endpoint: rest.Raw[chatBody, engine.ChatResponse](s.chat).Streaming(),
		},
		{
			Method: http.MethodPost, Path: "/v1/embeddings", Scope: catalog.ScopeInference, Timeout: engineTime, Once: true,
			Summary:  "Turn texts into vectors.",
			Endpoint: rest.Raw[embedBody, embedAnswer](s.embed),
		},
		{
			Method: http.MethodPost, Path: "/v1/predictions", Scope: catalog.ScopeInference, Timeout: engineTime, Once: true,
			Summary:  "Answer one input, and show the record that is kept of it.",
			Endpoint: rest.Raw[predictBody, inference.Prediction](s.predict),
		},
		{
			Method: http.MethodGet, Path: "/v1/predictions", Scope: catalog.ScopeRead, Query: rest.Paging,
			Summary:  "List answered requests of every kind, newest first.",
			Endpoint: rest.Give(s.predictions),
		},
		{
			Method: http.MethodGet, Path: "/v1/predictions/{id}", Scope: catalog.ScopeRead,
			Summary:  "Show an answered request.",
			Endpoint: rest.Give(s.prediction),
		},
		{
			Method: http.MethodDelete, Path: "/v1/predictions/{id}", Scope: catalog.ScopeErase,
			Summary:  "Erase what was said in an answered request; what it used stays. Twice is once.",
			Endpoint: rest.Give(s.erasePrediction),
		},
		{
			Method: http.MethodDelete, Path: "/v1/predictions", Scope: catalog.ScopeErase, Timeout: eraseTime,
			Query:    []rest.Query{{Name: "user", Type: "string", Summary: "The end user, as requests named them."}},
			Summary:  "Erase what was said in all answered requests of an end user.",
			Endpoint: rest.Give(s.eraseUser),
		},
		{
			Method: http.MethodGet, Path: "/v1/usage", Scope: catalog.ScopeRead,
			Query:    []rest.Query{{Name: "month", Type: "string", Summary: "Such as 2026-11 (UTC); this month when not given."}},
			Summary:  "Show what was used in a month, by day and model, and what of the month's limit is left.",
			Endpoint: rest.Give(s.usage),
		},
		{
			Method: http.MethodGet, Path: "/v1/models", Scope: catalog.ScopeRead,
			Summary:  "List the models that the tenant may use.",
			Endpoint: rest.Give(s.models),
		},
		{
			Method: http.MethodGet, Path: "/v1/models/{name...}", Scope: catalog.ScopeRead,
			Summary:  "Show a model.",
			Endpoint: rest.Give(s.model),
		},
		{
			Method: http.MethodDelete, Path: "/v1/models/{name...}", Scope: catalog.ScopeModels,
			Summary:  "Remove one of the tenant's own models, with its objects.",
			Endpoint: rest.Give(s.removeModel),
		},
		{
			Method: http.MethodGet, Path: "/v1/config", Scope: catalog.ScopeRead,
			Summary:  "Show the policy in force: the tenant's, and below it the calling key's own.",
			Endpoint: rest.Give(s.config),
		},
		{
			Method: http.MethodPost, Path: "/v1/api_keys", Scope: catalog.ScopeKeys, Once: true,
			Summary:  "Create an API key that can do no more than the calling one; one with a limit of its own makes none. The token is shown once: with an Idempotency-Key the same request, within a day, is answered with the key that it made, without its token.",
			Endpoint: rest.Take(http.StatusCreated, s.createKey),
		},
		{
			Method: http.MethodGet, Path: "/v1/api_keys", Scope: catalog.ScopeKeys, Query: rest.Paging,
			Summary:  "List the tenant's API keys, oldest first, revoked ones too.",
			Endpoint: rest.Give(s.keys),
		},
		{
			Method: http.MethodDelete, Path: "/v1/api_keys/{id}", Scope: catalog.ScopeKeys,
			Summary:  "Revoke an API key, on every node before this answers; twice is once.",
			Endpoint: rest.Give(s.revokeKey),
		},
		{
			Method: http.MethodGet, Path: "/v1/audit", Scope: catalog.ScopeRead,
			Query:    append([]rest.Query{{Name: "action", Type: "string", Summary: "Of this action alone."}}, rest.Paging...),
			Summary:  "List what was done in the tenant: predictions and administrative acts, newest first.",
			Endpoint: rest.Give(s.auditRows),
		},
		{
			Method: http.MethodGet, Path: "/v1/audit/verify", Scope: catalog.ScopeRead, Timeout: verifyTime,
			Query:    []rest.Query{{Name: "payloads", Type: "boolean", Summary: "Compare the predictions that are kept with their hashes too."}},
			Summary:  "Read the audit back: a row that was changed, removed or inserted is found.",
			Endpoint: rest.Give(s.verifyAudit),
		},
	}
}
