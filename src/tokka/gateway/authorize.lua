-- Loaded by HAProxy: asks the authorizer what a credential may do, and caches the answer for the seconds that it holds.
-- Sets txn.verdict (200, 401, 403 or 503), txn.reason and txn.client. An error in here leaves the 503 that was set.
local ADDRESS = "unix@authority.sock"
local TIMEOUT_S = 6
local SWEEP_S = 30
-- One request renews a grant in the last third of its lifetime, while the others use it.
local RENEWAL_SHARE = 1 / 3

local grants = {}
-- Incremented when all grants are dropped: an answer to an earlier question is not cached after that.
local generation = 0

local function now()
    local moment = core.now()
    return moment.sec + moment.usec / 1e6
end

-- One line each way. The answer: STATUS SECONDS CLIENT SCOPES REASON…, where "-" stands for nothing.
local function ask(credential)
    local unreachable = {status = 503, reason = "who asks cannot be checked now"}
    local socket = core.tcp()
    socket:settimeout(TIMEOUT_S)
    if not socket:connect(ADDRESS) then return unreachable end
    socket:send(credential .. "\n")
    local line = socket:receive("*l")
    socket:close()
    local status, seconds, client, scopes, reason = string.match(line or "", "^(%d%d%d) ([%d.]+) (%S+) (%S+) (.*)$")
    if not status then return unreachable end
    return {status = tonumber(status), seconds = tonumber(seconds), client = client, scopes = scopes, reason = reason}
end

local function renew(digest, credential)
    local asked_in, began = generation, now()
    local grant = ask(credential)
    if grant.status == 200 then
        grant.expires = began + grant.seconds
        grant.renewal = grant.expires - grant.seconds * RENEWAL_SHARE
        if asked_in == generation then grants[digest] = grant end
    elseif grant.status ~= 503 then
        grants[digest] = nil
    end
    return grant
end

local function look_up(digest, credential)
    local grant, moment = grants[digest], now()
    if grant == nil or grant.expires <= moment then return renew(digest, credential) end
    if grant.renewal > moment or grant.renewing then return grant end
    grant.renewing = true
    local renewed = renew(digest, credential)
    -- While the authorizer is away, a grant holds until it expires.
    if renewed.status == 503 and grant.expires > now() then
        grant.renewing = false
        return grant
    end
    return renewed
end

local function allows(grant, scope)
    return string.find("," .. grant.scopes .. ",", "," .. scope .. ",", 1, true) ~= nil
end

core.register_action("authenticate", {"http-req"}, function(txn)
    local credential, scope = txn:get_var("txn.credential"), txn:get_var("txn.scope")
    if credential == nil or credential == "" then
        txn:set_var("txn.reason", "send an API key or a bearer token")
        txn:set_var("txn.verdict", 401)
        return
    end
    -- Characters that no issuer uses are refused, among them those that would end the line.
    if #credential > 8192 or string.find(credential, "[^%w%-._~+/=]") then
        txn:set_var("txn.reason", "the credential is malformed")
        txn:set_var("txn.verdict", 401)
        return
    end
    local grant = look_up(txn:get_var("txn.digest"), credential)
    txn:set_var("txn.reason", grant.reason)
    if grant.status ~= 200 then
        txn:set_var("txn.verdict", grant.status == 401 and 401 or 503)
        return
    end
    txn:set_var("txn.client", grant.client)
    if allows(grant, "admin") then txn:set_var("txn.admin", 1) end
    -- Who only gives feedback chooses no request: its word counts in full, others' as far as someone else says the same.
    if allows(grant, "admin") or not allows(grant, "predict") then txn:set_var("txn.trusted", 1) end
    if not allows(grant, scope) then
        txn:set_var("txn.reason", "the credential lacks the scope " .. scope)
        txn:set_var("txn.verdict", 403)
        return
    end
    txn:set_var("txn.verdict", 200)
end)

-- `forget grants` on the runtime socket: a revoked key is refused from the next request on.
core.register_cli({"forget", "grants"}, "forget grants : ask the authorizer again about every credential", function(applet)
    generation = generation + 1
    grants = {}
    applet:send("forgotten\n")
end)

core.register_task(function()
    while true do
        core.sleep(SWEEP_S)
        local moment = now()
        for digest, grant in pairs(grants) do
            if grant.expires <= moment then grants[digest] = nil end
        end
    end
end)
