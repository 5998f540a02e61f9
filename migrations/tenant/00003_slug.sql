-- +goose Up
-- Whose database this is, in words: who lost the catalog finds its tenants by it.
alter table freehold.tenant_identity
    add column slug  text not null default '',
    add column name  text not null default '',
    add column email text not null default '',
    add column plan  text not null default '';

-- +goose Down
alter table freehold.tenant_identity drop column slug, drop column name, drop column email, drop column plan;
