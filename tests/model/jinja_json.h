// Variables of a template from JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "model/jinja_value.h"

namespace ringtide::model::jinja {

Value from_json(const nlohmann::ordered_json& json);

}  // namespace ringtide::model::jinja
