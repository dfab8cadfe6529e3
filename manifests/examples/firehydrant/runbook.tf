# Three buttons on every incident.  A step with no rule, that is neither automatic nor repeating, is
# manual: it runs when a responder presses it, in the Command Center or by `/fh runbooks`.
#
#   Preview    says what a rollback would do, and changes nothing
#   Roll back  does it; where the policy asks for approval, it answers with the plan instead
#   Approve    acts on the plan that was shown, and on no other
#
# Whoever still has Relay's template may keep it (relay.json.liquid); it cannot preview or approve,
# and a quotation mark in the incident's name breaks it.

terraform {
  required_providers {
    firehydrant = {
      source = "firehydrant/firehydrant"
    }
  }
}

variable "endpoint" {
  description = "The bridge as FireHydrant reaches it, with the path."
  type        = string
  default     = "https://rollback.example.com/firehydrant"
}

variable "hmac_secret" {
  description = "One of the secrets of incident-rollback-hmac.  It ends up in Terraform's state."
  type        = string
  sensitive   = true
}

data "firehydrant_runbook_action" "send_webhook" {
  integration_slug = "patchy"
  slug             = "send_webhook"
  type             = "incident"
}

resource "firehydrant_runbook" "rollback" {
  name        = "Roll back the last deploy"
  description = "Back to the last healthy revision of each impacted service."

  steps {
    name      = "Preview the rollback"
    action_id = data.firehydrant_runbook_action.send_webhook.id
    automatic = false
    repeats   = false
    config = jsonencode({
      endpoint    = var.endpoint
      payload     = file("${path.module}/preview.json.liquid")
      hmac_secret = var.hmac_secret
    })
  }

  steps {
    name      = "Roll back"
    action_id = data.firehydrant_runbook_action.send_webhook.id
    automatic = false
    repeats   = false
    config = jsonencode({
      endpoint    = var.endpoint
      payload     = file("${path.module}/rollback.json.liquid")
      hmac_secret = var.hmac_secret
    })
  }

  steps {
    name      = "Approve the plan"
    action_id = data.firehydrant_runbook_action.send_webhook.id
    automatic = false
    repeats   = false
    config = jsonencode({
      endpoint    = var.endpoint
      payload     = file("${path.module}/approve.json.liquid")
      hmac_secret = var.hmac_secret
    })
  }
}
